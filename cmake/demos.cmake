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

# respd's shared store has a test of its own: a model, kills at single instructions, and a storm of them.
if(TARGET demo_respd AND SHARENA_BUILD_TESTS AND NOT "${SHARENA_SANITIZE}" MATCHES "thread")
    file(GLOB respd_sources CONFIGURE_DEPENDS demo/respd/*.c)
    list(FILTER respd_sources EXCLUDE REGEX "/main\\.c$")
    add_executable(test_demo_respd demo/respd/tests/store_kill.c ${respd_sources} ${common_sources})
    target_include_directories(test_demo_respd PRIVATE demo/respd demo/common)
    target_include_directories(test_demo_respd SYSTEM PRIVATE ${LIBEV_INCLUDE_DIR})
    target_compile_options(test_demo_respd PRIVATE -UNDEBUG)
    target_link_libraries(test_demo_respd PRIVATE sharena sharena_private sharena_strict
                                                  PkgConfig::HIREDIS ${LIBEV_LIBRARY} Threads::Threads)
    add_test(NAME demo.respd_store COMMAND test_demo_respd)
    set_tests_properties(demo.respd_store PROPERTIES LABELS demo TIMEOUT 300)
endif()
