# Benchmarks. bench/steady.c is for tools that count. bench/driver is linked with each of
# bench/backends: one program bin/bench_NAME per allocator, so that nobody's malloc replaces another's.

file(GLOB driver_sources CONFIGURE_DEPENDS bench/driver/*.c)
add_library(bench_driver OBJECT ${driver_sources})
target_link_libraries(bench_driver PRIVATE sharena_private sharena_strict)
add_custom_target(bench) # all that ./dev bench runs

# add_bench_program(TARGET SOURCES_AND_OBJECTS LIBRARY...)
function(add_bench_program target sources)
    add_executable(${target} ${sources})
    target_link_libraries(${target} PRIVATE sharena_private sharena_strict Threads::Threads ${ARGN})
    set_target_properties(${target} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)
    add_dependencies(bench ${target})
endfunction()

# add_backend(SOURCE LIBRARY...)
function(add_backend source)
    get_filename_component(name ${source} NAME_WE)
    add_bench_program(bench_${name} "bench/backends/${source};$<TARGET_OBJECTS:bench_driver>" ${ARGN})
endfunction()

# add_peer(SOURCE FOUND PACKAGE LIBRARY...) -- where it is installed.
function(add_peer source found package)
    if(${found})
        add_backend(${source} ${ARGN})
    else()
        message(STATUS "sharena: no benchmark of ${source}: ${package} is not installed")
    endif()
endfunction()

# add_static_backend(NAME LIBRARY...) -- without the jump through the procedure linkage table, which costs
# more than the fast path itself. The peers have C++ within.
function(add_static_backend name)
    add_bench_program(bench_${name}_static
        "bench/backends/${name}.c;$<TARGET_OBJECTS:bench_driver>" ${ARGN} ${CMAKE_DL_LIBS} m)
    if(CMAKE_CXX_COMPILER)
        set_target_properties(bench_${name}_static PROPERTIES LINKER_LANGUAGE CXX)
    endif()
endfunction()

# What a user's program does: the calls go through the procedure linkage table.
add_bench_program(bench_steady bench/steady.c sharena_static ${CMAKE_DL_LIBS})
add_bench_program(bench_steady_shared bench/steady.c sharena)

add_backend(bare.c)
add_backend(sharena.c sharena)
add_static_backend(sharena sharena_static)

# The peers; not with a sanitizer, which is a malloc of its own.
if(NOT SHARENA_SANITIZE)
    include(CheckLanguage)
    check_language(CXX)
    if(CMAKE_CXX_COMPILER)
        enable_language(CXX)
        find_path(BOOST_INTERPROCESS_DIR boost/interprocess/managed_mapped_file.hpp)
    endif()
    pkg_check_modules(JEMALLOC IMPORTED_TARGET jemalloc)
    pkg_check_modules(TCMALLOC IMPORTED_TARGET libtcmalloc_minimal)
    pkg_check_modules(PMEMOBJ IMPORTED_TARGET libpmemobj)
    find_library(MIMALLOC_LIBRARY mimalloc)
    add_backend(glibc.c)
    add_peer(jemalloc.c JEMALLOC_FOUND libjemalloc-dev PkgConfig::JEMALLOC)
    add_peer(mimalloc.c MIMALLOC_LIBRARY libmimalloc-dev ${MIMALLOC_LIBRARY})
    add_peer(tcmalloc.c TCMALLOC_FOUND libgoogle-perftools-dev PkgConfig::TCMALLOC)
    add_peer(pmemobj.c PMEMOBJ_FOUND libpmemobj-dev PkgConfig::PMEMOBJ)
    add_peer(boost.cpp BOOST_INTERPROCESS_DIR libboost-dev)
    find_library(JEMALLOC_ARCHIVE libjemalloc.a)
    find_library(TCMALLOC_ARCHIVE libtcmalloc_minimal.a)
    foreach(peer jemalloc tcmalloc)
        string(TOUPPER ${peer}_ARCHIVE archive)
        if(CMAKE_CXX_COMPILER AND ${archive})
            add_static_backend(${peer} ${${archive}})
        endif()
    endforeach()
    if(TARGET bench_pmemobj)
        target_compile_definitions(bench_pmemobj PRIVATE
            PMEMOBJ_PACKAGE_VERSION="${PMEMOBJ_VERSION}")
    endif()
    if(TARGET bench_boost)
        target_compile_features(bench_boost PRIVATE cxx_std_17)
    endif()
endif()

# Every workload with every backend for some milliseconds: that they run, and that no block is handed out
# twice. No time decides.
find_package(Python3 3.9 COMPONENTS Interpreter)
if(SHARENA_BUILD_TESTS AND Python3_FOUND)
    add_test(NAME bench.quick
             COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/bench/run.py smoke
                     --bin ${CMAKE_CURRENT_BINARY_DIR}/bin
                     --out ${CMAKE_CURRENT_BINARY_DIR}/bench-smoke)
    set_tests_properties(bench.quick PROPERTIES LABELS bench TIMEOUT 300 SKIP_RETURN_CODE 77)
endif()

# Counts, which are the same in every run, are tests. They hold for optimised code only.
if(SHARENA_BUILD_TESTS AND NOT SHARENA_SANITIZE AND CMAKE_BUILD_TYPE MATCHES "^Rel")
    foreach(name instructions syscalls)
        add_test(NAME bench.${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/bench/${name}.sh)
        set_tests_properties(bench.${name} PROPERTIES
            LABELS bench TIMEOUT 120 SKIP_RETURN_CODE 77
            ENVIRONMENT "SHARENA_BIN=${CMAKE_CURRENT_BINARY_DIR}/bin")
    endforeach()
endif()
