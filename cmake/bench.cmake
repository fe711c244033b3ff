# Benchmarks: bench/X.c is one program, bin/bench_X in the build directory, with the static library.
file(GLOB bench_sources CONFIGURE_DEPENDS bench/*.c)
foreach(source IN LISTS bench_sources)
    get_filename_component(name ${source} NAME_WE)
    add_executable(bench_${name} ${source})
    target_link_libraries(bench_${name} PRIVATE sharena_static sharena_private sharena_strict
                                                Threads::Threads ${CMAKE_DL_LIBS})
    set_target_properties(bench_${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)
endforeach()

# What a user's program does: the calls go through the procedure linkage table.
add_executable(bench_steady_shared bench/steady.c)
target_link_libraries(bench_steady_shared PRIVATE sharena sharena_private sharena_strict)
set_target_properties(bench_steady_shared PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)

# Counts, which are the same in every run, are tests. They hold for optimised code only.
if(SHARENA_BUILD_TESTS AND NOT SHARENA_SANITIZE AND CMAKE_BUILD_TYPE MATCHES "^Rel")
    foreach(name instructions syscalls)
        add_test(NAME bench.${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/bench/${name}.sh)
        set_tests_properties(bench.${name} PROPERTIES
            LABELS bench TIMEOUT 120 SKIP_RETURN_CODE 77
            ENVIRONMENT "SHARENA_BIN=${CMAKE_CURRENT_BINARY_DIR}/bin")
    endforeach()
endif()
