# The node's agent and its setter. Built from the checkout: docker build -f deploy/docker/agent.Dockerfile -t muster/agent:0.1.0 .
# The driver's library comes from the host by the container runtime; nothing of CUDA is in the image.
ARG PYTHON=3.11.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY planner planner
COPY telemetry telemetry
COPY controller controller
COPY workloads workloads
COPY deploy deploy
RUN python -m venv /opt/muster \
 && /opt/muster/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:${PYTHON}
COPY --from=build /opt/muster /opt/muster
ENV PATH=/opt/muster/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 9410
ENTRYPOINT ["muster"]
CMD ["agent", "--listen", "0.0.0.0:9410"]
