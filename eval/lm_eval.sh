#!/usr/bin/env bash
# Evaluate a checkpoint with the stock lm-evaluation-harness, without easyep.
#
#     eval/lm_eval.sh DIR [TASKS] [more options of lm_eval]
#
# TASKS are of eval/tasks/ (easyep_demo by default) or of lm-eval itself.
set -euo pipefail
model=$(realpath "$1")
tasks=${2:-easyep_demo}
shift $(($# > 1 ? 2 : 1))
cd "$(dirname "$0")/.." # the tasks name their data relative to the repository
exec lm_eval --model hf --model_args "pretrained=$model,dtype=float32" --device cpu \
    --include_path eval/tasks --tasks "$tasks" --apply_chat_template --batch_size 32 "$@"
