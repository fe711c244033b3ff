# Demos: the directory demo/NAME is one program, bin/NAME in the build directory. It sees what a user
# sees: the public header and the shared library. What demos share is in demo/common.

pkg_check_modules(HIREDIS IMPORTED_TARGET hiredis)
find_path(LIBEV_INCLUDE_DIR ev.h PATH_SUFFIXES libev) # libev has no pkg-config file everywhere
find_library(LIBEV_LIBRARY ev)

file(GLOB common_sources CONFIGURE_DEPENDS demo/common/*.c)
file(GLOB demo_sources CONFIGURE_DEPENDS demo/*/*.c)
set(demos "")
foreach(source IN LISTS demo_sources)
    get_filename_component(dir ${source} DIRECTORY)
    get_filename_component(name ${dir} NAME)
    if(NOT name STREQUAL "common")
        list(APPEND demos ${name})
    endif()
endforeach()
list(REMOVE_DUPLICATES demos)

foreach(demo IN LISTS demos)
    if(demo STREQUAL "respd" AND NOT (HIREDIS_FOUND AND LIBEV_INCLUDE_DIR AND LIBEV_LIBRARY))
        message(STATUS "sharena: no demo respd: it needs hiredis and libev (libhiredis-dev libev-dev)")
        continue()
    endif()
    set(sources ${demo_sources})
    list(FILTER sources INCLUDE REGEX "/demo/${demo}/[^/]*$")
    add_executable(demo_${demo} ${sources} ${common_sources})
    target_include_directories(demo_${demo} PRIVATE demo/${demo} demo/common)
    target_compile_options(demo_${demo} PRIVATE -UNDEBUG)
    target_link_libraries(demo_${demo} PRIVATE sharena sharena_private sharena_strict
                                               Threads::Threads)
    set_target_properties(demo_${demo} PROPERTIES
        OUTPUT_NAME ${demo} RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)
    if(demo STREQUAL "respd")
        target_include_directories(demo_respd SYSTEM PRIVATE ${LIBEV_INCLUDE_DIR})
        target_link_libraries(demo_respd PRIVATE PkgConfig::HIREDIS ${LIBEV_LIBRARY})
    endif()
endforeach()

# demo/NAME/tests/TEST.c: a kill test of what the demo keeps in the heap, linked with all of the demo but its
# main.c. Kills at single instructions and storms of them; not under the thread sanitizer, which follows
# neither forks nor kills.
file(GLOB trial_sources CONFIGURE_DEPENDS demo/common/tests/*.c)
function(add_demo_test demo test)
    if(NOT TARGET demo_${demo})
        return()
    endif()
    set(sources ${demo_sources})
    list(FILTER sources INCLUDE REGEX "/demo/${demo}/[^/]*$")
    list(FILTER sources EXCLUDE REGEX "/main\\.c$")
    add_executable(demo_${demo}_${test} demo/${demo}/tests/${test}.c ${trial_sources} ${sources}
                                        ${common_sources})
    foreach(property INCLUDE_DIRECTORIES COMPILE_OPTIONS LINK_LIBRARIES)
        get_target_property(value demo_${demo} ${property})
        set_target_properties(demo_${demo}_${test} PROPERTIES ${property} "${value}")
    endforeach()
    add_test(NAME demo.${demo}_${test} COMMAND demo_${demo}_${test})
    set_tests_properties(demo.${demo}_${test} PROPERTIES LABELS demo TIMEOUT 300)
endfunction()

if(SHARENA_BUILD_TESTS AND NOT "${SHARENA_SANITIZE}" MATCHES "thread")
    add_demo_test(respd server_kill)
    if(NOT SHARENA_SANITIZE) # they count instructions: a sanitizer's own are of no interest
        add_demo_test(respd store_kill)
        add_demo_test(messages exchange_kill)
        add_demo_test(wordindex build_kill)
    endif()
endif()
