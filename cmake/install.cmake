# cmake --install: headers, both libraries, sharena.pc, and the package for find_package(sharena).
# Both descriptions are relocatable: the prefix is found from where they lie.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/sharena)

install(DIRECTORY include/sharena DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING
        PATTERN "*.h")
install(TARGETS sharena sharena_static EXPORT sharena-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT sharena-targets NAMESPACE sharena:: DESTINATION ${package_dir})

configure_package_config_file(cmake/sharena-config.cmake.in
    ${CMAKE_CURRENT_BINARY_DIR}/sharena-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/sharena-config-version.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/sharena-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/sharena-config-version.cmake
        DESTINATION ${package_dir})

# sharena.pc: directories relative to the prefix, unless the packager gave absolute ones.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
    file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
    string(REGEX REPLACE "/$" "" up "${up}")
    set(pc_prefix "\${pcfiledir}/${up}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
    if(IS_ABSOLUTE "${CMAKE_INSTALL_${dir}}")
        set(pc_${dir} "${CMAKE_INSTALL_${dir}}")
    else()
        set(pc_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
    endif()
endforeach()
configure_file(cmake/sharena.pc.in ${CMAKE_CURRENT_BINARY_DIR}/sharena.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/sharena.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
