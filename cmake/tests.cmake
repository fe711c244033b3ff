# Tests: tests/KIND/test_X.c is one program and one ctest, named KIND.X, labelled KIND.
#
# A source with the line `/* ctest: inprocess */` (threads, but no other processes) is labelled
# inprocess as well; with SHARENA_SANITIZE=thread these are the only ones.

# The tests of the thread sanitizer's build are a subset: that tool does not follow fork().
set(inprocess_only OFF)
if("${SHARENA_SANITIZE}" MATCHES "thread")
    set(inprocess_only ON)
endif()

function(sharena_add_test kind source)
    get_filename_component(stem ${source} NAME_WE)
    string(REGEX REPLACE "^test_" "" name ${stem})
    set(labels ${kind})
    # The label is read while configuring, so a change of the source has to configure again.
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    file(STRINGS ${source} marks REGEX "^/\\* ctest: inprocess \\*/")
    if(marks)
        list(APPEND labels inprocess)
    elseif(inprocess_only)
        return()
    endif()

    set(target test_${kind}_${name})
    add_executable(${target} ${source} ${ARGN})
    target_include_directories(${target} PRIVATE src tests/support)
    target_compile_options(${target} PRIVATE -UNDEBUG)
    target_compile_definitions(${target} PRIVATE SHARENA_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
    target_link_libraries(${target} PRIVATE sharena_static sharena_private PkgConfig::CMOCKA
                                            PkgConfig::LIBURCU_BP PkgConfig::JANSSON
                                            Threads::Threads)
    set_target_properties(${target} PROPERTIES
        OUTPUT_NAME ${stem} RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests/${kind})

    add_test(NAME ${kind}.${name} COMMAND ${target})
    set(timeout 120)
    set(processors 1)
    if(kind MATCHES "^(mp|crash)$")
        set(timeout 300)
        set(processors 2)
    endif()
    set_tests_properties(${kind}.${name} PROPERTIES
        LABELS "${labels}" TIMEOUT ${timeout} PROCESSORS ${processors}
        ENVIRONMENT "${sanitizer_environment}")
endfunction()

# No deadlock detector: it gives up at 64 locks, and a check of the heap holds all there are. The order
# of locks is asserted by the library itself (lock.c).
# detect_deadlocks: that detector stops at 64 locks held, and sharena_check() holds them all; the order
# of locks is asserted by their ranks instead.
set(sanitizer_environment
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/tools/tsan.supp:detect_deadlocks=0")

pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)
if(CMOCKA_FOUND)
    file(GLOB support_sources CONFIGURE_DEPENDS tests/support/*.c)
    set(support_objects "")
    if(support_sources)
        add_library(sharena_test_support OBJECT ${support_sources})
        target_include_directories(sharena_test_support PRIVATE include src tests/support)
        target_compile_options(sharena_test_support PRIVATE -UNDEBUG)
        target_link_libraries(sharena_test_support PRIVATE sharena_private PkgConfig::CMOCKA
                                                           PkgConfig::LIBURCU_BP Threads::Threads)
        set(support_objects $<TARGET_OBJECTS:sharena_test_support>)
    endif()
    foreach(kind unit api mp crash)
        file(GLOB test_sources CONFIGURE_DEPENDS tests/${kind}/test_*.c)
        foreach(source IN LISTS test_sources)
            sharena_add_test(${kind} ${source} ${support_objects})
        endforeach()
    endforeach()
else()
    message(STATUS "sharena: no tests of the code: cmocka was not found (libcmocka-dev)")
endif()

# The installed package, from outside the tree. Not with a sanitizer: its users have none.
if(NOT SHARENA_SANITIZE)
    add_test(NAME package
             COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/tests/package/run.sh
                     ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_CURRENT_BINARY_DIR} $<CONFIG>)
    set_tests_properties(package PROPERTIES
        LABELS package TIMEOUT 300
        ENVIRONMENT "CC=${CMAKE_C_COMPILER};CMAKE=${CMAKE_COMMAND}")
endif()
