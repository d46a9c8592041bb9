#!/bin/bash
# One ablation per job of a SLURM array; the last line, run once all are done, prints the table.
#
#   sbatch --array=0-6 examples/slurm_ablations.sh chests-128 runs/ablations
#   xrecon train configs/xrecon_128.yaml --grid configs/ablations.yaml -o runs/ablations --set data.path=chests-128
#SBATCH --job-name=xrecon-ablations
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
set -euo pipefail

data=${1:?usage: sbatch --array=0-6 slurm_ablations.sh DATASET FOLDER}
folder=${2:?usage: sbatch --array=0-6 slurm_ablations.sh DATASET FOLDER}
srun xrecon train configs/xrecon_128.yaml --grid configs/ablations.yaml --index "$SLURM_ARRAY_TASK_ID" \
  --output "$folder" --set data.path="$data" --set run.accelerator=cuda
