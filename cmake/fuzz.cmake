# Fuzzing: tests/fuzz/fuzz_X.c is a libFuzzer target, tests/fuzz/corpus/X its inputs.
#
# Everywhere: fuzz_corpus_X runs the corpus once without libFuzzer, as the test fuzz.X.
# SHARENA_FUZZ (clang): fuzz_X, the fuzzer itself; the preset `fuzz` and `./dev fuzz` use it.
option(SHARENA_FUZZ "Build the libFuzzer targets (needs clang)" OFF)

# The thread sanitizer's tests are a subset (tests.cmake), and its address window is another.
if("${SHARENA_SANITIZE}" MATCHES "thread")
    return()
endif()

file(GLOB fuzz_support CONFIGURE_DEPENDS tests/fuzz/*.c)
list(FILTER fuzz_support EXCLUDE REGEX "/(fuzz_[a-z]*|main)\\.c$")
file(GLOB fuzz_targets CONFIGURE_DEPENDS tests/fuzz/fuzz_*.c)

function(sharena_add_fuzzer target)
    add_executable(${target} ${ARGN})
    target_include_directories(${target} PRIVATE src tests/fuzz)
    target_compile_options(${target} PRIVATE -UNDEBUG)
    target_link_libraries(${target} PRIVATE sharena_static sharena_private PkgConfig::LIBURCU_BP
                                            Threads::Threads)
    set_target_properties(${target} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests/fuzz)
endfunction()

if(SHARENA_FUZZ)
    # No traces of comparisons: the mutator invents better values, and they cost half of the time.
    target_compile_options(sharena_objects PRIVATE -fsanitize=fuzzer-no-link
                                                   -fno-sanitize-coverage=trace-cmp)
endif()
foreach(source IN LISTS fuzz_targets)
    get_filename_component(stem ${source} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "" name ${stem})
    sharena_add_fuzzer(fuzz_corpus_${name} ${source} ${fuzz_support} tests/fuzz/main.c)
    add_test(NAME fuzz.${name}
             COMMAND fuzz_corpus_${name} ${CMAKE_CURRENT_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 120
        ENVIRONMENT "${sanitizer_environment}")
    if(SHARENA_FUZZ)
        sharena_add_fuzzer(fuzz_${name} ${source} ${fuzz_support})
        target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    endif()
endforeach()
