# The command `sharena`: bin/sharena in the build directory. It uses the library from inside, so it is
# linked with the static one. Its man page and its completion for bash are installed with it.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(NCURSES REQUIRED IMPORTED_TARGET ncurses)

file(GLOB cli_sources CONFIGURE_DEPENDS src/cli/*.c)
add_executable(sharena_cli ${cli_sources})
target_include_directories(sharena_cli PRIVATE src)
target_link_libraries(sharena_cli PRIVATE sharena_static sharena_private sharena_strict
                                          PkgConfig::JANSSON PkgConfig::NCURSES
                                          PkgConfig::LIBURCU_BP Threads::Threads m)
set_target_properties(sharena_cli PROPERTIES
    OUTPUT_NAME sharena RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)

install(TARGETS sharena_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES doc/sharena.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES completions/sharena DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
