# Whether engines run: caflow_has_tensorrt. It takes the headers of TensorRT or TensorRT-RTX, on the system or in
# TensorRT_ROOT (the folder of NVIDIA's archive, or one that holds them), and the CUDA toolkit. TensorRT itself is opened
# while a program runs.
set(CAFLOW_TENSORRT AUTO CACHE STRING "TensorRT engines on a GPU: ON, OFF, or AUTO, where its headers and CUDA are found")
set(caflow_has_tensorrt OFF)
if(NOT CAFLOW_TENSORRT)
    return()
endif()

find_path(CAFLOW_TENSORRT_INCLUDE_DIR NvInferRuntime.h HINTS ${TensorRT_ROOT} ENV TensorRT_ROOT PATH_SUFFIXES include)
mark_as_advanced(CAFLOW_TENSORRT_INCLUDE_DIR)
find_package(CUDAToolkit 12 QUIET)
if(CAFLOW_TENSORRT_INCLUDE_DIR AND CUDAToolkit_NVCC_EXECUTABLE)
    if(NOT DEFINED CMAKE_CUDA_COMPILER)  # which is looked for in PATH alone
        set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
        set(CMAKE_CUDA_ARCHITECTURES all-major)
    endif()
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
        enable_language(CUDA)
        set(caflow_has_tensorrt ON)
    endif()
endif()
if(NOT caflow_has_tensorrt AND NOT CAFLOW_TENSORRT STREQUAL "AUTO")
    message(FATAL_ERROR
        "CAFLOW_TENSORRT wants TensorRT's headers (got CAFLOW_TENSORRT_INCLUDE_DIR ${CAFLOW_TENSORRT_INCLUDE_DIR}: give "
        "TensorRT_ROOT) and the CUDA toolkit 12 or newer (got nvcc ${CUDAToolkit_NVCC_EXECUTABLE})")
endif()
