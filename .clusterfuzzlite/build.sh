#!/bin/bash -eu
# Builds all fuzz targets into $OUT, each with its seeds and dictionary; Z3 goes beside them.
cd "$SRC/flowproof"
tools/setup-z3.sh
FLOWPROOF_RPATH='$ORIGIN/lib' cargo fuzz build -O --debug-assertions
mkdir -p "$OUT/lib"
cp -L .z3/lib/libz3.so.* "$OUT/lib/"
for source in fuzz/fuzz_targets/*.rs; do
  target=$(basename "$source" .rs)
  # It asks an Open vSwitch, which the images do not have.
  [ "$target" != real_switch ] || continue
  cp "${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release/$target" "$OUT/"
  [ ! -d "fuzz/seeds/$target" ] || zip -jq "$OUT/${target}_seed_corpus.zip" "fuzz/seeds/$target"/*
  [ ! -f "fuzz/seeds/$target.dict" ] || cp "fuzz/seeds/$target.dict" "$OUT/"
done
