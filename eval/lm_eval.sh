#!/usr/bin/env bash
# Evaluate a checkpoint with the stock lm-evaluation-harness, without easyep.
#
#     eval/lm_eval.sh DIR [TASKS] [more options of lm_eval]
#
# TASKS are of eval/tasks/ (easyep_demo by default) or of lm-eval itself.
set -euo pipefail
if [ ! -d "${1:-}" ]; then
    echo "usage: eval/lm_eval.sh DIR [TASKS] [options of lm_eval]; ${1:-nothing} is no directory" >&2
    exit 2
fi
if ! command -v lm_eval >/dev/null; then
    echo "lm_eval is not on the PATH: activate the environment, or pip install 'lm-eval[hf]'" >&2
    exit 1
fi
model=$(realpath "$1")
tasks=${2:-easyep_demo}
shift $(($# > 1 ? 2 : 1))
cd "$(dirname "$0")/.." # the tasks name their data relative to the repository
exec lm_eval --model hf --model_args "pretrained=$model,dtype=float32" --device cpu \
    --include_path eval/tasks --tasks "$tasks" --apply_chat_template --batch_size 32 "$@"
