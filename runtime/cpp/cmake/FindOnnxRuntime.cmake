# Finds ONNX Runtime and defines the target OnnxRuntime::OnnxRuntime.
#
# By default, headers and library are those of the system. CAFLOW_ONNXRUNTIME_LIBRARY selects another library: a file,
# or a folder that contains it directly or in capi/, such as site-packages/onnxruntime of a Python environment. The
# library may be newer than the headers.
#
# Sets OnnxRuntime_FOUND. With CAFLOW_ONNXRUNTIME_LIBRARY, also sets OnnxRuntime_FILE and OnnxRuntime_PROVIDERS.

if(NOT DEFINED CAFLOW_ONNXRUNTIME_LIBRARY)
    set(CAFLOW_ONNXRUNTIME_LIBRARY "" CACHE PATH "Library of ONNX Runtime, or a folder that contains it, such as that of the Python wheel")
endif()

find_path(OnnxRuntime_INCLUDE_DIR onnxruntime_cxx_api.h
    PATH_SUFFIXES onnxruntime onnxruntime/core/session)

if(CAFLOW_ONNXRUNTIME_LIBRARY)
    set(OnnxRuntime_FILE "${CAFLOW_ONNXRUNTIME_LIBRARY}")
    if(IS_DIRECTORY "${OnnxRuntime_FILE}")
        file(GLOB OnnxRuntime_FILES
            "${OnnxRuntime_FILE}/libonnxruntime.so*" "${OnnxRuntime_FILE}/capi/libonnxruntime.so*")
        list(SORT OnnxRuntime_FILES COMPARE NATURAL)
        list(POP_BACK OnnxRuntime_FILES OnnxRuntime_FILE)
    endif()
    if(OnnxRuntime_FILE AND EXISTS "${OnnxRuntime_FILE}")
        # The library in a wheel does not have the name that the loader expects, so link to it under that name. Link to
        # the providers in the same folder, because the library loads them from there.
        file(REAL_PATH "${OnnxRuntime_FILE}" OnnxRuntime_FILE)
        cmake_path(GET OnnxRuntime_FILE PARENT_PATH OnnxRuntime_FOLDER)
        file(GLOB OnnxRuntime_PROVIDERS "${OnnxRuntime_FOLDER}/libonnxruntime_providers_*.so")
        set(OnnxRuntime_FOLDER "${CMAKE_CURRENT_BINARY_DIR}/onnxruntime")
        file(MAKE_DIRECTORY "${OnnxRuntime_FOLDER}")
        set(OnnxRuntime_LIBRARY "${OnnxRuntime_FOLDER}/libonnxruntime.so.1")
        file(CREATE_LINK "${OnnxRuntime_FILE}" "${OnnxRuntime_LIBRARY}" SYMBOLIC)
        foreach(provider ${OnnxRuntime_PROVIDERS})
            cmake_path(GET provider FILENAME OnnxRuntime_NAME)
            file(CREATE_LINK "${provider}" "${OnnxRuntime_FOLDER}/${OnnxRuntime_NAME}" SYMBOLIC)
        endforeach()
    endif()
else()
    find_library(OnnxRuntime_SYSTEM_LIBRARY onnxruntime)
    set(OnnxRuntime_LIBRARY "${OnnxRuntime_SYSTEM_LIBRARY}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntime
    REQUIRED_VARS OnnxRuntime_LIBRARY OnnxRuntime_INCLUDE_DIR
    REASON_FAILURE_MESSAGE "on Debian: apt-get install libonnxruntime-dev")

if(OnnxRuntime_FOUND AND NOT TARGET OnnxRuntime::OnnxRuntime)
    add_library(OnnxRuntime::OnnxRuntime SHARED IMPORTED)
    set_target_properties(OnnxRuntime::OnnxRuntime PROPERTIES
        IMPORTED_LOCATION "${OnnxRuntime_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${OnnxRuntime_INCLUDE_DIR}")
endif()
mark_as_advanced(OnnxRuntime_INCLUDE_DIR OnnxRuntime_SYSTEM_LIBRARY)
