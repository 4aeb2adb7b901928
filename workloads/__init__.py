"""Work for GPUs: kernels and serving and training jobs. Nothing is in here yet."""
