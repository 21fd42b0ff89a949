#!/bin/sh
# with_reference.sh PYTHON MODULE SCRIPT [ARGUMENT...]: runs a test script that compares with a
# Python package. Where PYTHON or the package is missing, the test counts as skipped (77), or as
# failed if RODEO_REQUIRE_REFERENCE is 1.
python=$1
module=$2
shift 2
if ! "$python" -c "import $module" 2>/dev/null; then
    echo "$python cannot import $module: scripts/bootstrap installs it"
    [ "$RODEO_REQUIRE_REFERENCE" = 1 ] && exit 1
    exit 77
fi
exec "$python" "$@"
