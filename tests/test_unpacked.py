"""Packages without root: scripts/bootstrap --packages, on packages made here, in a tree of its own.

    test_unpacked.py SCRIPTS PKG_CONFIG    the folder of the scripts, and the program pkg-config
"""
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77


def run(*command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


TRIPLET = run("gcc", "-print-multiarch").stdout.strip()


def check(condition, what):
    if not condition:
        sys.exit(f"test_unpacked: {what}")


def make_deb(folder, name, files, links, version="1"):
    """A package of files {path: content} and links {path: target}."""
    content = folder / f"{name}-{version}"
    for path, text in {"DEBIAN/control": f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
                                         f"Maintainer: nobody <n@example.org>\nDescription: {name}\n",
                       **files}.items():
        (content / path).parent.mkdir(parents=True, exist_ok=True)
        (content / path).write_bytes(text if isinstance(text, bytes) else text.encode())
        (content / path).chmod(0o755)
    for path, target in links.items():
        (content / path).parent.mkdir(parents=True, exist_ok=True)
        (content / path).symlink_to(target)
    deb = folder / "debs" / f"{name}_{version}_all.deb"
    deb.parent.mkdir(exist_ok=True)
    made = run("dpkg-deb", "--build", content, deb)
    check(made.returncode == 0, made.stdout)


def make_library(folder, number):
    """A shared library: what number() returns."""
    source = folder / "number.c"
    source.write_text(f"int number(void) {{ return {number}; }}\n")
    made = run("gcc", "-shared", "-fPIC", "-Wl,-soname,libnumber.so.1", source, "-o", folder / "made.so")
    check(made.returncode == 0, made.stdout)
    return (folder / "made.so").read_bytes()


def make_packages(folder):
    """The library below /lib, as older packages have it, and below /usr what leads to it. A version of it
    is still there from an earlier download."""
    for version, number in (("1.9", 9), ("1.10", 42)):
        library = {f"lib/{TRIPLET}/libnumber.so.1": make_library(folder, number)}
        make_deb(folder, "number", library, {}, version)
    pc = ("prefix=/usr\nincludedir=${prefix}/include\nName: number\nDescription: 42\nVersion: 1\n"
          f"Libs: -L/usr/lib/{TRIPLET} -lnumber\nCflags: -I${{includedir}}\n")
    make_deb(folder, "number-dev",
             {"usr/include/number.h": "int number(void);\n",
              f"usr/lib/{TRIPLET}/pkgconfig/number.pc": pc,
              "usr/bin/protoc-c": '#!/bin/sh\necho "$LD_LIBRARY_PATH" "$@"\n'},
             {f"usr/lib/{TRIPLET}/libnumber.so": f"/lib/{TRIPLET}/libnumber.so.1",
              "usr/share/elsewhere": "/etc/hostname"})


def make_wanted_packages(folder, bootstrap):
    """What Rodeo needs, by name, with nothing in it."""
    listed = run("bash", "-c", f"source <(sed -n '/^packages=(/,/^)/p' {shlex.quote(str(bootstrap))});"
                               'echo "${packages[@]}"').stdout.split()
    check("libdnnl-dev" in listed, f"no list of packages: {listed}")
    for name in listed:
        if name not in ("gcc", "g++", "cmake", "python3"):  # the machine's own
            make_deb(folder, name, {}, {})


def unpacked_library_works(tree, environment):
    """A program is compiled by what pkg-config says and finds the library when it runs."""
    libraries = tree / ".deps/files/usr/lib" / TRIPLET
    said = run(sys.argv[2], "--cflags", "--libs", "number",
               env={**environment, "PKG_CONFIG_PATH": str(libraries / "pkgconfig")})
    check(said.returncode == 0, said.stdout)
    (tree / "main.c").write_text("#include <number.h>\nint main(void) { return number(); }\n")
    made = run("gcc", "main.c", *shlex.split(said.stdout), f"-Wl,-rpath,{libraries}", "-o", "main", cwd=tree)
    check(made.returncode == 0, made.stdout)
    check(run(tree / "main").returncode == 42, "the library is not the one that was unpacked")


def who_is_not_root_is_pointed_at_local(folder, bootstrap):
    """A user without sudo, on a machine where nothing is installed."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("bash", "dirname", "basename", "find", "awk", "dpkg", "apt-cache", "apt-get"):
        (programs / name).symlink_to(shutil.which(name))
    for name, script in (("id", "echo 1000"), ("dpkg-query", "exit 1")):
        (programs / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
        (programs / name).chmod(0o755)
    result = run(shutil.which("bash"), bootstrap, env={"PATH": str(programs)})
    check(result.returncode == 1 and result.stdout.count("\n") == 1 and "--local" in result.stdout, result.stdout)


def main():
    scripts = pathlib.Path(sys.argv[1])
    if not shutil.which("dpkg-deb"):
        print("no Debian here")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tree = folder / "a tree"
        shutil.copytree(scripts, tree / "scripts")
        bootstrap = tree / "scripts/bootstrap"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PKG_CONFIG")}
        who_is_not_root_is_pointed_at_local(folder, bootstrap)
        make_packages(folder)
        make_wanted_packages(folder, bootstrap)
        good = (folder / "debs/number-dev_1_all.deb").read_bytes()

        (folder / "debs/number-dev_1_all.deb").write_bytes(good[:-100])
        result = run(bootstrap, "--packages", folder / "debs")
        check(result.returncode != 0 and "number-dev_1_all.deb: cannot be unpacked" in result.stdout, result.stdout)
        check(not (tree / ".deps/packages").exists(), "half of the packages pass for all")

        (folder / "debs/number-dev_1_all.deb").write_bytes(good)
        result = run(bootstrap, "--packages", folder / "debs")
        check(result.returncode == 0, result.stdout)
        unpacked_library_works(tree, environment)
        started = run(tree / ".deps/bin/protoc-c", "a b")
        check(started.stdout.strip().split(":")[0].split(" a b")[0] == str(tree / ".deps/files/usr/lib" / TRIPLET),
              f"a program is started with {started.stdout}")
        elsewhere = os.readlink(tree / ".deps/files/usr/share/elsewhere")
        check(elsewhere == "/etc/hostname", f"a link to the system now leads to {elsewhere}")

        (tree / ".deps/files/mark").touch()
        for again in ([], ["--local"], ["--packages", folder / "debs"]):
            result = run(bootstrap, *again)
            check(result.returncode == 0 and result.stdout == "", f"{again}: {result.stdout}")
        check((tree / ".deps/files/mark").exists(), "what was unpacked is unpacked again")
        result = run(bootstrap, "--reference")
        check(result.returncode != 0 and "--reference installs packages" in result.stdout, result.stdout)

        (tree / ".deps/packages").write_text("gcc\n")  # of a program that needed less
        (folder / "debs/number-dev_1_all.deb").write_bytes(good[:-100])
        result = run(bootstrap, "--packages", folder / "debs")
        check(result.returncode != 0 and not (tree / ".deps/packages").exists(), "half of the packages pass for more")
        (folder / "debs/libzip-dev_1_all.deb").unlink()
        result = run(bootstrap, "--packages", folder / "debs")
        check(result.returncode != 0 and "has no package libzip-dev" in result.stdout, result.stdout)
        result = run(bootstrap, "--packages", folder / "nowhere")
        check(result.returncode != 0 and "there is no such folder" in result.stdout, result.stdout)


main()
