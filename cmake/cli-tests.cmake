# Tests of the command `sharena`: tests/cli/test_X.py is one ctest, cli.X, which runs the program as a
# user would. They run other processes: not for the thread sanitizer.
if(inprocess_only)
    return()
endif()

file(GLOB cli_tests CONFIGURE_DEPENDS tests/cli/test_*.py)
foreach(source IN LISTS cli_tests)
    get_filename_component(stem ${source} NAME_WE)
    string(REGEX REPLACE "^test_" "" name ${stem})
    add_test(NAME cli.${name} COMMAND python3 ${source})
    set_tests_properties(cli.${name} PROPERTIES
        LABELS cli TIMEOUT 300 SKIP_RETURN_CODE 77
        ENVIRONMENT "SHARENA_BIN=${CMAKE_CURRENT_BINARY_DIR}/bin;${sanitizer_environment}")
endforeach()

# Processes for these tests to look at: content fills a heap as it is told, churn never stops changing one.
add_executable(cli_content tests/cli/content.c)
target_link_libraries(cli_content PRIVATE sharena sharena_private Threads::Threads)
add_executable(cli_churn tests/cli/churn.c)
target_link_libraries(cli_churn PRIVATE sharena_static sharena_private Threads::Threads)
set_target_properties(cli_content cli_churn PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)

# Its sites are what `sharena prof` must name; linked in both ways.
add_executable(prof_target tests/cli/prof_target.c)
target_link_libraries(prof_target PRIVATE sharena_static sharena_private Threads::Threads)
add_executable(prof_target_shared tests/cli/prof_target.c)
target_link_libraries(prof_target_shared PRIVATE sharena sharena_private Threads::Threads)
set_target_properties(prof_target prof_target_shared PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)
