"""The rules of the house that no linter knows: what lies where, how long, how documented, and the one command."""

import ast
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest
import typer

from planner.main import commands, summary
from tests.pace import pace

ROOT = Path(__file__).parent.parent
PRODUCT = ("planner", "controller", "telemetry", "workloads")
PACKAGES = (*PRODUCT, "deploy", "tests")
TOP_LEVEL = {
    *(".ci", ".gitignore", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "constraints.txt", "pyproject.toml"),
    *PACKAGES,
}
MUSTER = Path(sys.executable).with_name("muster")


def ours() -> list[Path]:
    """Every file of the checkout that git does not ignore, relative to its root."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: git says which files are ours")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (Path(name) for name in names.split("\0") if name)
    return [path for path in paths if (ROOT / path).is_file()]


def product_modules() -> list[Path]:
    return [path for path in ours() if path.parts[0] in PRODUCT and path.suffix == ".py"]


def run_muster(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MUSTER, *arguments], capture_output=True, text=True, check=False)


def cpu_s_of_help() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_muster("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_top_level_holds_what_the_design_lists_and_nothing_else() -> None:
    assert {path.parts[0] for path in ours()} - TOP_LEVEL == set()


def test_no_product_module_is_longer_than_300_lines() -> None:
    lines = {str(path): len((ROOT / path).read_text("utf-8").splitlines()) for path in product_modules()}
    assert {path: count for path, count in lines.items() if count > 300} == {}


def test_the_product_cites_papers_by_title_and_never_by_a_number_of_ours() -> None:
    private = re.compile(r"\bP[0-8]\d\b|shared/")
    files = [path for path in ours() if path.parts[0] in (*PRODUCT, "deploy") and path.suffix != ".npz"]
    assert [str(path) for path in files if private.search((ROOT / path).read_text("utf-8", "replace"))] == []


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    home = re.compile(r"/(?:work|root|home)/")
    files = [path for path in ours() if path != Path("tests/test_house.py")]
    assert [str(path) for path in files if home.search((ROOT / path).read_text("utf-8", "replace"))] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_readme(package: str) -> None:
    assert (ROOT / package / "README.md").read_text("utf-8").startswith("# ")


def test_every_module_says_what_it_is_for() -> None:
    trees = {str(path): ast.parse((ROOT / path).read_text("utf-8")) for path in product_modules()}
    assert [path for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


def test_every_technique_is_one_documented_file_that_ends_in_its_constant() -> None:
    readme = (ROOT / "planner/README.md").read_text("utf-8")
    for path in sorted((ROOT / "planner/techniques").glob("[!_]*.py")):
        last = ast.parse(path.read_text("utf-8")).body[-1]
        assert isinstance(last, ast.Assign), path
        assert ast.unparse(last.targets[0]) == "TECHNIQUE", path
        assert f"`{path.stem.replace('_', '-')}`" in readme, f"{path} is not in planner/README.md"


def test_constraints_pin_every_requirement_by_version_alone() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    assert lines == sorted(lines, key=str.upper)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = pyproject["project"]["optional-dependencies"].values()
    extras = [[name for name in extra if not name.startswith("muster-gpu[")] for extra in extras]
    wanted = [*pyproject["build-system"]["requires"], *pyproject["project"]["dependencies"], *chain(*extras)]
    pinned = {re.sub("[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    assert {re.split(r"[<>=!~ ]", name)[0].lower() for name in wanted} - pinned == set()


def test_help_lists_every_command_with_its_summary() -> None:
    shown = " ".join(run_muster("--help").stdout.split())
    assert commands().keys() >= {"allocate", "catalog", "plan", "schema", "validate"}
    for name, entry in commands().items():
        assert f" {name} {summary(entry)}" in shown


@pytest.mark.parametrize("command", commands().values(), ids=str)
def test_a_command_loads_and_has_a_summary(command: EntryPoint) -> None:
    loaded = command.load()
    text = loaded.info.help if isinstance(loaded, typer.Typer) else loaded.__doc__
    assert summary(command) == str(text).splitlines()[0] != ""


def test_help_imports_no_command() -> None:
    code = "import sys, planner.main as m\nfor c in m.commands().values(): m.summary(c)\nprint(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"planner.cli", "numpy", "highspy", "pydantic", "rich.table"} & set(loaded) == set()


def test_help_takes_at_most_300_ms_of_cpu() -> None:
    assert min(cpu_s_of_help() for _ in range(5)) <= 0.3 * pace()  # the least, since others share the machine's caches


def test_no_arguments_show_the_help() -> None:
    assert run_muster().stdout == run_muster("--help").stdout != ""


def test_the_version_is_printed() -> None:
    assert run_muster("--version").stdout == "muster 0.1.0\n"


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    ended = run_muster("plam", "spec.yaml")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: unknown command 'plam'; did you mean 'plan'?")
    assert ended.stderr.count("\n") == 1


def test_a_file_that_cannot_be_read_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    ended = run_muster("allocate", str(tmp_path / "absent.json"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: .*absent\.json.*\n", ended.stderr)


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    script = f"set -o pipefail; {MUSTER} --help | true"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 1)  # 0 when the help was written before the reader left
    assert ended.stderr == ""


def test_the_shell_completes_commands_and_their_options() -> None:
    def completed(line: str) -> list[str]:
        shell = {"_MUSTER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        ended = subprocess.run([MUSTER], env={**os.environ, **shell}, capture_output=True, text=True, check=True)
        return ended.stdout.split()

    assert completed("muster pl") == ["plan"]
    assert completed("muster plan --inv") == ["--inventory"]
    assert completed("muster catalog g") == ["gpus"]


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/etc/debian_version").exists(), reason="the rule is for root on Debian"
)
def test_in_ci_a_skipped_shared_data_test_counts_as_a_failure(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_data.py").write_text("def test_data(shared): pass\n", "utf-8")

    def ended(ci: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CI": ci, "MUSTER_SHARED": str(tmp_path / "absent")}
        pytest_run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
        return subprocess.run(
            [*pytest_run, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
        )

    in_ci, elsewhere = ended("true"), ended("")
    assert in_ci.returncode == 1
    assert "in CI, as root on Debian, this test must run" in in_ci.stdout
    assert elsewhere.returncode == 0
    assert elsewhere.stdout.splitlines()[-1].startswith("1 skipped")


@pytest.mark.slow
def test_the_wheel_ships_the_packages_with_their_data_and_no_tests(tmp_path: Path) -> None:
    sources = [path for path in ours() if path.parts[0] not in ("tests", ".ci")]
    for path in sources:
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / "source" / path)
    options = [
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "--wheel-dir",
        str(tmp_path),
    ]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(tmp_path / "source")], check=True)
    [wheel] = tmp_path.glob("muster_gpu-*.whl")
    shipped = {Path(name) for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped == {path for path in sources if path.parts[0] in (*PRODUCT, "deploy")}
