# Debian packages without root: unpacked below .deps/, where the build and the scripts find them. For
# scripts/bootstrap, which sources it after lib.sh.
#
#   .deps/files/     what the packages hold
#   .deps/bin/       the programs among it that a build starts, each started with its own libraries
#   .deps/packages   the packages' names; written last, so without it the rest is half done
# shellcheck shell=bash

deps=$PWD/.deps

# What a machine of another release must bring itself, for it does not go together with ours: tools in
# any form, and what every Debian has, whose libraries must not be had twice.
other_tools=(gcc g++ libc6-dev make cmake ninja-build python3)
every_debian=(gcc g++ libc6-dev make python3 dpkg debconf ucf)
started_programs=(cmake ctest ninja make pkg-config protoc-c python3)

# apt_here ARGUMENT...: apt-get for who is not root, with lists of its own (fetch_lists_here).
apt_here() {
    local options=(-q -o Debug::NoLocking=1 -o Dir::Cache="$deps/apt/cache" -o Dir::State::lists="$deps/apt/lists")
    [ "$(id -u)" -ne 0 ] || options+=(-o APT::Sandbox::User=root)
    apt-get "${options[@]}" "$@"
}

# fetch_lists_here: anew; the system's may be missing, or too old for what the servers still have.
fetch_lists_here() {
    command -v apt-get >/dev/null || die "apt-get is not there"
    mkdir -p "$deps/apt/lists/partial" "$deps/apt/cache/archives/partial"
    say "bootstrap: fetching the package lists"
    apt_here -qq update
}

# needed_by STATUS PACKAGE...: NAME=VERSION of each package that has to come, those named included, to
# a machine of which STATUS, a file as dpkg keeps it, is true.
needed_by() {
    local status=$1 plan
    shift
    plan=$(apt_here -s -o Dir::State::status="$status" install --no-install-recommends "$@") ||
        die "apt-get finds no way to get $*"
    sed -n 's/^Inst \([^ ]*\) [^(]*(\([^ ]*\) .*/\1=\2/p' <<<"$plan" | sort -u
}

# needed_elsewhere PACKAGE...: the same for a machine of another release that has other_tools.
needed_elsewhere() {
    local wanted needed there
    mapfile -t wanted < <(printf '%s\n' "$@" | grep -vxFf <(printf '%s\n' "${other_tools[@]}"))
    : >"$deps/apt/nothing"
    needed=$(needed_by "$deps/apt/nothing" "${wanted[@]}")
    there=$(needed_by "$deps/apt/nothing" "${every_debian[@]}")
    comm -23 <(printf '%s\n' "$needed") <(printf '%s\n' "$there")
}

# fetch_debs DIR NAME=VERSION...: those that are not in DIR yet.
fetch_debs() {
    local folder=$1
    shift
    mkdir -p "$folder"
    (cd "$folder" && apt_here download "$@") ||
        die "not all packages could be fetched into $folder; the same command goes on"
}

# unpack_debs DIR ROOT: every .deb in DIR, as if ROOT were the machine's root. Of a package that is there twice,
# from an earlier download, the newer version comes last and stays.
unpack_debs() {
    local deb folder
    rm -rf "$2"
    mkdir -p "$2/usr/lib" "$2/usr/bin"
    for folder in lib bin; do # one place, as on every merged system
        ln -s "usr/$folder" "$2/$folder"
    done
    while IFS= read -r deb; do
        dpkg-deb --fsys-tarfile "$deb" |
            tar -x --keep-directory-symlink --no-same-owner --exclude='./usr/share/doc' -C "$2" ||
            die "$deb: cannot be unpacked: damaged, or the disk is full"
    done < <(printf '%s\n' "$1"/*.deb | sort -V)
    lead_links_inside "$2"
    lead_pkgconfig_inside "$2"
}

# lead_links_inside ROOT: links to a place that ROOT has.
lead_links_inside() {
    local link target
    find "$1" -type l -lname '/*' -print0 | while IFS= read -r -d '' link; do
        target=$(readlink "$link")
        [ ! -e "$1$target" ] || ln -sfn "$(realpath -s --relative-to="$(dirname "$link")" "$1$target")" "$link"
    done
}

# lead_pkgconfig_inside ROOT: what pkg-config reads names /usr; here it is named from the file's place.
lead_pkgconfig_inside() {
    local file up
    find "$1/usr" -path '*/pkgconfig/*.pc' -type f -print0 | while IFS= read -r -d '' file; do
        up=$(realpath --relative-to="$(dirname "$file")" "$1/usr")
        sed -E -i "s#(=|-I|-L)/usr(/|\$)#\1\${pcfiledir}/$up\2#g" "$file"
    done
}

# write_starters ROOT DIR: for programs in ROOT that a build starts.
write_starters() {
    local program libraries
    libraries=$1/usr/lib/$(gcc -print-multiarch)
    rm -rf "$2"
    mkdir -p "$2"
    for program in "${started_programs[@]}"; do
        [ -x "$1/usr/bin/$program" ] || continue
        # shellcheck disable=SC2016 # that is for the starter to expand
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec %s "$@"\n' \
            "'$libraries'" "'$1/usr/bin/$program'" >"$2/$program"
        chmod +x "$2/$program"
    done
}

# has_unpacked PACKAGE...: whether all of them are there.
has_unpacked() {
    [ -f "$deps/packages" ] && ! printf '%s\n' "$@" | grep -qvxFf "$deps/packages"
}

# lay_out DIR PACKAGE...: unpacks what is in DIR; PACKAGE... are then there. DIR need not have other_tools.
lay_out() {
    local folder=$1 package
    shift
    for package in "$@"; do
        [[ " ${other_tools[*]} " = *" $package "* ]] || compgen -G "$folder/${package}_*.deb" >/dev/null ||
            die "$folder: has no package $package; let scripts/bootstrap --download fill it again"
    done
    say "bootstrap: unpacking the packages in $folder below .deps/"
    rm -f "$deps/packages"
    unpack_debs "$folder" "$deps/files"
    write_starters "$deps/files" "$deps/bin"
    printf '%s\n' "$@" >"$deps/packages.new"
    mv "$deps/packages.new" "$deps/packages"
}
