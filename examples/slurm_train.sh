#!/bin/bash
# X-Recon at 224^3 on two nodes of four GPUs. Fabric reads the SLURM variables; nothing else has to be set.
#
#   sbatch examples/slurm_train.sh chests-224 runs/xrecon-224
#
# A job that SLURM ends early goes on where it was: submit the same line again, or let it requeue itself.
#SBATCH --job-name=xrecon
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

data=${1:?usage: sbatch slurm_train.sh DATASET RUN_FOLDER}
run=${2:?usage: sbatch slurm_train.sh DATASET RUN_FOLDER}

# run.minutes is a little less than --time: the run stops by itself behind a complete checkpoint.
srun xrecon train configs/xrecon_224_paper.yaml \
  --output "$run" --resume auto \
  --set data.path="$data" \
  --set data.workers=7 \
  --set run.accelerator=cuda --set run.devices=4 --set run.nodes=2 --set run.strategy=ddp \
  --set run.precision=bf16-mixed --set run.checkpointing=true \
  --set run.minutes=1420
