# Kills: programs that kill processes at every step of every operation. As ctests they take samples, of
# a given time and with a seed that they print; `./dev crash` does all of it.
#
#   crash_steps    from outside: a debugger stops a process at any instruction
#   crash_points   from inside: a build of the library that dies after any store
#   crash_storm    many workers of one heap, killed at random
#   crash_reopen   all of them killed; the next open is timed

function(sharena_add_crash name)
    set_target_properties(crash_${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)
    # They fork: not for the thread sanitizer.
    if(NOT inprocess_only)
        add_test(NAME crash.${name} COMMAND crash_${name} ${ARGN})
        set_tests_properties(crash.${name} PROPERTIES
            LABELS crash TIMEOUT 300 PROCESSORS 2 SKIP_RETURN_CODE 77 ENVIRONMENT "${sanitizer_environment}")
    endif()
endfunction()

# The stepper knows x86-64 only, and a sanitizer's own instructions are of no interest.
if(NOT SHARENA_SANITIZE AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    file(GLOB steps_sources CONFIGURE_DEPENDS tests/crash/steps.c tests/crash/stage.c
                                              tests/crash/trace.c tests/crash/point.c
                                              tests/crash/scenarios_*.c)
    add_executable(crash_steps ${steps_sources})
    target_include_directories(crash_steps PRIVATE src tests/crash)
    target_compile_options(crash_steps PRIVATE -UNDEBUG)
    # No lazy binding: it would be among the first victim's instructions, and not among the others'.
    target_link_options(crash_steps PRIVATE LINKER:-z,now)
    target_link_libraries(crash_steps PRIVATE sharena_static sharena_private
                                              PkgConfig::LIBURCU_BP Threads::Threads)
    sharena_add_crash(steps --seconds 40)
endif()

# The library's sources once more, with their fault points.
add_library(sharena_points OBJECT ${library_sources})
target_compile_definitions(sharena_points PRIVATE SHARENA_FAULT_POINTS)
target_include_directories(sharena_points PRIVATE include src)
target_link_libraries(sharena_points PRIVATE sharena_private sharena_strict PkgConfig::LIBURCU_BP
                                             PkgConfig::JANSSON Threads::Threads)
set_target_properties(sharena_points PROPERTIES POSITION_INDEPENDENT_CODE ON
                                                C_VISIBILITY_PRESET hidden)

file(GLOB points_sources CONFIGURE_DEPENDS tests/crash/points*.c)
add_executable(crash_points ${points_sources} $<TARGET_OBJECTS:sharena_points>)
target_compile_definitions(crash_points PRIVATE SHARENA_FAULT_POINTS)
target_compile_options(crash_points PRIVATE -UNDEBUG)
target_include_directories(crash_points PRIVATE include src)
target_link_libraries(crash_points PRIVATE sharena_private PkgConfig::LIBURCU_BP PkgConfig::JANSSON
                                           Threads::Threads)
# All symbols are bound before the first fork, or every child would bind them anew. And a reaper that
# finds a bad block in a dead thread's cache drops it, which these tests must see.
target_link_options(crash_points PRIVATE LINKER:-z,now LINKER:--wrap=misuse_is_inherited)
sharena_add_crash(points --seconds 15)

add_library(sharena_storm OBJECT tests/crash/storm_control.c tests/crash/storm_table.c
                                 tests/crash/storm_work.c tests/crash/storm_fleet.c)
target_link_libraries(sharena_storm PRIVATE sharena_private)
target_include_directories(sharena_storm PRIVATE include)
foreach(name storm reopen)
    add_executable(crash_${name} tests/crash/${name}.c $<TARGET_OBJECTS:sharena_storm>)
    target_link_libraries(crash_${name} PRIVATE sharena_static sharena_private Threads::Threads)
endforeach()
sharena_add_crash(storm --seconds 2.5 --rounds 3)
sharena_add_crash(reopen --kills 40 --objects 100000)
