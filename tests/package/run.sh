#!/bin/bash
# run.sh SOURCE_DIR BUILD_DIR CONFIG -- installs into a temporary prefix and uses it as a stranger would:
# through pkg-config (shared and static), and through find_package. Compiles consumer.c and, word for
# word, the example of README.md, and runs both.
# Environment: CC, CMAKE (what the build was made with).
set -euo pipefail

source_dir=$1
build_dir=$2
config=$3
cc=${CC:-cc}
cmake=${CMAKE:-cmake}
here=$source_dir/tests/package

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

say() { printf 'package: %s\n' "$*"; }
die() { printf 'package: FAILED: %s\n' "$*" >&2; exit 1; }

# ---- install ----
"$cmake" --install "$build_dir" --config "$config" --prefix "$work/prefix" > install.log \
    || { cat install.log; die "cmake --install"; }
pc=$(find "$work/prefix" -name sharena.pc)
libdir=$(dirname "$(dirname "$pc")")
[[ -f $work/prefix/include/sharena/sharena.h ]] || die "the header was not installed"
[[ -f $libdir/libsharena.so && -f $libdir/libsharena.a ]] || die "a library was not installed"

if [[ -x $build_dir/bin/sharena ]]; then
    [[ $("$work/prefix/bin/sharena" --version) == sharena\ * ]] || die "the command was not installed"
    [[ -f $work/prefix/share/man/man1/sharena.1 ]] || die "its manual was not installed"
    [[ -f $work/prefix/share/bash-completion/completions/sharena ]] || die "its completion was not installed"
fi

# What the shared library exports is what the header declares, and nothing else.
nm -D --defined-only "$libdir/libsharena.so" | awk '{ print $3 }' | sort > exported
foreign=$(grep -v '^sharena_' exported || true)
[[ -z $foreign ]] || die "libsharena.so exports: $(tr '\n' ' ' <<< "$foreign")"
# Comments go first: they mention functions as well.
"$cc" -fpreprocessed -dD -E -P "$work/prefix/include/sharena/sharena.h" 2> /dev/null \
    | grep -v '^typedef ' | grep -o '\bsharena_[a-z_]*(' | tr -d '(' | sort -u > declared
missing=$(comm -13 exported declared)
[[ -z $missing ]] || die "declared in sharena.h but not exported: $(tr '\n' ' ' <<< "$missing")"
say "libsharena.so exports $(wc -l < exported) symbols, all declared in sharena.h"

# ---- the programs ----
cp "$here/consumer/consumer.c" consumer.c
programs=(consumer)
if [[ -f $source_dir/README.md ]]; then
    # The first block of C that has a main().
    awk '/^```c$/ { text = ""; inside = 1; next }
         /^```/ && inside { inside = 0; if (text ~ /[ *]main *\(/) { printf "%s", text; exit } next }
         inside { text = text $0 "\n" }' "$source_dir/README.md" > readme.c
    [[ -s readme.c ]] || die "README.md has no block of C (\`\`\`c) with a main()"
    programs+=(readme)
fi

# Heaps that the programs name, to be removed afterwards -- but not one that was here before.
heaps=()
for name in $(cat ./*.c | grep -o '"/\(dev/shm\|tmp\)/[^"]*"' | tr -d '"' | sort -u); do
    [[ -e $name ]] || heaps+=("$name")
done
trap 'rm -rf "$work" ${heaps[@]+"${heaps[@]}"}' EXIT

# run_program NAME EXECUTABLE -- must end with 0.
run_program() {
    if ! "$2" > output 2>&1; then
        cat output
        die "$1: $2 ended with an error"
    fi
    [[ ${#heaps[@]} -eq 0 ]] || rm -f "${heaps[@]}"
}

warnings=(-std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror)

# ---- pkg-config, shared ----
export PKG_CONFIG_PATH=$libdir/pkgconfig
for program in "${programs[@]}"; do
    # shellcheck disable=SC2046  # words are what pkg-config prints
    "$cc" "${warnings[@]}" "$program.c" $(pkg-config --cflags --libs sharena) -o "$program.shared"
    LD_LIBRARY_PATH=$libdir run_program "$program" "./$program.shared"
    say "$program.c: pkg-config, shared: ok"
done
[[ $(pkg-config --libs sharena) != *urcu* ]] || die "pkg-config --libs names liburcu without --static"

# ---- pkg-config, static: from a prefix that has no shared library ----
cp -r prefix prefix.static
static_libdir=$work/prefix.static${libdir#"$work/prefix"}
rm -f "$static_libdir"/libsharena.so*
for program in "${programs[@]}"; do
    # shellcheck disable=SC2046
    PKG_CONFIG_PATH=$static_libdir/pkgconfig \
        "$cc" "${warnings[@]}" "$program.c" \
        $(PKG_CONFIG_PATH=$static_libdir/pkgconfig pkg-config --static --cflags --libs sharena) \
        -o "$program.static"
    run_program "$program" "./$program.static"
    say "$program.c: pkg-config --static: ok"
done

# ---- find_package: both targets ----
mkdir find_package
cp "$here/consumer/CMakeLists.txt" ./*.c find_package
cmake_log=$work/cmake.log
"$cmake" -S find_package -B find_package/build -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$work/prefix" > "$cmake_log" 2>&1 \
    || { cat "$cmake_log"; die "find_package(sharena)"; }
"$cmake" --build find_package/build > "$cmake_log" 2>&1 \
    || { cat "$cmake_log"; die "building with find_package(sharena)"; }
for program in "${programs[@]}"; do
    run_program "$program" "find_package/build/${program}_shared"
    run_program "$program" "find_package/build/${program}_static"
    say "$program.c: find_package, sharena::sharena and sharena::sharena_static: ok"
done
say "all ok"
