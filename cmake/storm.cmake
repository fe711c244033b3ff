# Storms: crash_storm and crash_reopen, programs that kill workers of one heap at random. The tests
# here are short; for the full figures: bin/crash_storm --kills 10000, --rate 1 --seconds 20, and
# bin/crash_reopen.
add_library(sharena_storm OBJECT tests/crash/storm_control.c tests/crash/storm_table.c
                                 tests/crash/storm_work.c tests/crash/storm_fleet.c)
target_link_libraries(sharena_storm PRIVATE sharena_private)
target_include_directories(sharena_storm PRIVATE include)

function(sharena_add_storm name)
    add_executable(crash_${name} tests/crash/${name}.c $<TARGET_OBJECTS:sharena_storm>)
    target_link_libraries(crash_${name} PRIVATE sharena_static sharena_private Threads::Threads)
    set_target_properties(crash_${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)
    if(NOT inprocess_only)
        add_test(NAME crash.${name} COMMAND crash_${name} ${ARGN})
        set_tests_properties(crash.${name} PROPERTIES
            LABELS crash TIMEOUT 300 PROCESSORS 2 ENVIRONMENT "${sanitizer_environment}")
    endif()
endfunction()

sharena_add_storm(storm --seconds 2.5 --rounds 3)
sharena_add_storm(reopen --kills 40 --objects 100000)
