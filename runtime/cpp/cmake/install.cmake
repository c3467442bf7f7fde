# Files that `cmake --install` installs, so that find_package(caflow) finds the library.
include(CMakePackageConfigHelpers)

set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/caflow)
install(TARGETS caflow EXPORT caflowTargets)
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include/caflow DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT caflowTargets NAMESPACE caflow:: DESTINATION ${config_folder})

configure_package_config_file(cmake/caflowConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/caflowConfig.cmake
    INSTALL_DESTINATION ${config_folder}
    PATH_VARS CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/caflowConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
    ${CMAKE_CURRENT_BINARY_DIR}/caflowConfig.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/caflowConfigVersion.cmake
    cmake/FindOnnxRuntime.cmake
    DESTINATION ${config_folder})

# Install ONNX Runtime's library as well if it is not the one of the system.
if(CAFLOW_ONNXRUNTIME_LIBRARY)
    install(FILES ${OnnxRuntime_FILE} DESTINATION ${CMAKE_INSTALL_LIBDIR} RENAME libonnxruntime.so.1)
    install(FILES ${OnnxRuntime_PROVIDERS} DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
