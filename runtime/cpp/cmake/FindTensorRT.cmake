# The headers of TensorRT or TensorRT-RTX, and CUDA's runtime, as TensorRT::TensorRT, where there is nvcc. TensorRT itself is opened while a
# program runs, where it uses engines.
#
# Headers are looked for on the system and in TensorRT_ROOT, the folder of an unpacked archive of NVIDIA's, or one that
# holds NvInferRuntime.h.
#
# Sets TensorRT_FOUND and TensorRT_VERSION.

find_package(CUDAToolkit QUIET)
find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h)

if(TensorRT_INCLUDE_DIR)
    file(STRINGS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h" TensorRT_LINES
        REGEX "^#define TRT_(MAJOR|MINOR|PATCH)_(ENTERPRISE|RTX) ")
    string(REGEX MATCHALL " [0-9]+" TensorRT_VERSION "${TensorRT_LINES}")
    string(REPLACE "; " "." TensorRT_VERSION "${TensorRT_VERSION}")
    string(STRIP "${TensorRT_VERSION}" TensorRT_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT
    REQUIRED_VARS TensorRT_INCLUDE_DIR CUDAToolkit_NVCC_EXECUTABLE
    VERSION_VAR TensorRT_VERSION
    REASON_FAILURE_MESSAGE "give TensorRT_ROOT, and install the CUDA toolkit")

if(TensorRT_FOUND AND NOT TARGET TensorRT::TensorRT)
    add_library(TensorRT::TensorRT INTERFACE IMPORTED)
    target_include_directories(TensorRT::TensorRT INTERFACE "${TensorRT_INCLUDE_DIR}")
    target_link_libraries(TensorRT::TensorRT INTERFACE CUDA::cudart_static ${CMAKE_DL_LIBS})
endif()
mark_as_advanced(TensorRT_INCLUDE_DIR)
