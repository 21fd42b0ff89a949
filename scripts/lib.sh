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

cores() {
    nproc
}

# build_preset PRESET: configures and builds everything of one preset of CMakePresets.json.
build_preset() {
    say "== configuring and building: $1"
    cmake --preset "$1"
    cmake --build --preset "$1" --parallel "$(cores)"
}
