# crash_points: kills from inside. The library's sources once more, with their fault points.
add_library(sharena_points OBJECT ${library_sources})
target_compile_definitions(sharena_points PRIVATE SHARENA_FAULT_POINTS)
target_include_directories(sharena_points PRIVATE include src)
target_link_libraries(sharena_points PRIVATE sharena_private sharena_strict PkgConfig::LIBURCU_BP
                                             Threads::Threads)
set_target_properties(sharena_points PROPERTIES POSITION_INDEPENDENT_CODE ON
                                                C_VISIBILITY_PRESET hidden)

file(GLOB points_sources CONFIGURE_DEPENDS tests/crash/points*.c)
add_executable(crash_points ${points_sources} $<TARGET_OBJECTS:sharena_points>)
target_compile_definitions(crash_points PRIVATE SHARENA_FAULT_POINTS)
target_compile_options(crash_points PRIVATE -UNDEBUG)
target_include_directories(crash_points PRIVATE include src)
target_link_libraries(crash_points PRIVATE sharena_private PkgConfig::LIBURCU_BP Threads::Threads)
# All symbols are bound before the first fork, or every child would bind them anew.
target_link_options(crash_points PRIVATE LINKER:-z,now LINKER:--wrap=misuse_is_inherited)
set_target_properties(crash_points PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests/crash)

# A sample; `crash_points` without arguments does it all. Its processes fork: not for the thread
# sanitizer.
if(NOT "${SHARENA_SANITIZE}" MATCHES "thread")
    add_test(NAME crash.points COMMAND crash_points --seconds 15)
    set_tests_properties(crash.points PROPERTIES
        LABELS crash TIMEOUT 120 PROCESSORS 2 ENVIRONMENT "${sanitizer_environment}")
endif()
