#!/usr/bin/env bash
# Snakemake runs this once, after it has made the environment of mmpose.yaml.
set -euo pipefail
pip install --no-deps mmpose==1.3.2 mmcv-lite==2.1.0 mmengine==0.10.7 mmpretrain==1.2.0
