# Shared by the scripts in this folder: source it first. Leaves the shell in the repository's root.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# print_help SCRIPT: the comment block at the top of a script, without its #! line.
print_help() {
    awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$1"
}

# is_unpacked: whether this tree keeps Debian packages of its own (scripts/bootstrap --local).
is_unpacked() {
    [ -d .deps/files ]
}
# Its programs go before the system's.
PATH=$PWD/.deps/bin:$PATH

cores() {
    nproc
}

# build_preset PRESET: configures and builds everything of one preset of CMakePresets.json.
build_preset() {
    say "== configuring and building: $1"
    cmake --preset "$1"
    cmake --build --preset "$1" --parallel "$(cores)"
}

# find_nvcc: the CUDA compiler that the build would take; fails where there is none.
find_nvcc() {
    local candidate
    for candidate in "${CUDACXX:-}" nvcc "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" /usr/local/cuda/bin/nvcc; do
        [ -n "$candidate" ] && command -v "$candidate" && return
    done
    return 1
}

# nvcc_knows ARCHITECTURE: whether that compiler still has it (60, 70, ...).
nvcc_knows() {
    "$(find_nvcc)" --list-gpu-arch | grep -qx "compute_$1"
}

# find_cuda_clang: the clang that compiles CUDA code for GPUs that the toolkit here has dropped. The
# first has been tried longest; each distribution has one of them.
cuda_clangs=(clang-19 clang-20 clang-18)
find_cuda_clang() {
    local candidate
    for candidate in "${cuda_clangs[@]}"; do
        command -v "$candidate" && return
    done
    return 1
}

# find_cuobjdump: the toolkit's disassembler, or the one that scripts/bootstrap --reference installs.
find_cuobjdump() {
    local candidate nvcc
    nvcc=$(find_nvcc) || return 1
    for candidate in cuobjdump "$(dirname "$(realpath "$nvcc")")/cuobjdump" \
        .venv-disassembler/lib/python*/site-packages/nvidia/cu*/bin/cuobjdump; do
        command -v "$candidate" && return
    done
    return 1
}
