# Kills: programs that kill processes at every step of every operation. As ctests they take samples, of
# a given time and with a seed that they print; `./dev crash` does all of it.

# From outside: a debugger that stops a process at any instruction. It knows x86-64 only, and a
# sanitizer's own instructions are of no interest.
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
    set_target_properties(crash_steps PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)
    add_test(NAME crash.steps COMMAND crash_steps --seconds 40)
    set_tests_properties(crash.steps PROPERTIES LABELS crash TIMEOUT 300 PROCESSORS 2)
endif()
