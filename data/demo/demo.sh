#!/usr/bin/env bash
# What `make demo` runs: fetch the starter's language model, index the demo collection, search it with words, a picture
# and a sound, and measure Recall@k. TRIMODAL is the program, DEMO the folder for the collection.
set -euo pipefail
trimodal=${TRIMODAL:-trimodal}
demo=${DEMO:-.demo}
here=$(cd "$(dirname "$0")" && pwd)
data=${here#"$PWD"/}

say() { printf '\n\033[1m$ trimodal %s\033[0m\n' "$*"; }
run() { say "$@"; "$trimodal" "$@"; }

run models pull starter
run index "$data/manifest.jsonl" --collection "$demo"
run search "a green frog" --collection "$demo" -k 6
run search "a guitar" --collection "$demo" --modality audio -k 5
run search "a musical instrument" --collection "$demo" -k 6
run search --image "$data/images/pink-rose.png" --collection "$demo" -k 5
run search --audio "$data/audio/drum-roll.ogg" --collection "$demo" -k 5
run search "a flower" --minus red --collection "$demo" --modality image -k 5
run bench "$data/manifest.jsonl" --collection "$demo"
printf '\nThe collection is in %s. Try: %s search "a yellow bird" --collection %s\n' "$demo" "$trimodal" "$demo"
