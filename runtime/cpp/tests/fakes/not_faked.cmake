# Writes a header with classes that implement every method of TensorRT's interfaces by ending the process. The fakes
# derive from these classes and override the methods that the library may call. The header is generated, because there
# are 150 methods, and they differ between versions.
#
# cmake -D HEADER=…/NvInferImpl.h -D OUTPUT=not_faked.hpp -P not_faked.cmake
file(READ ${HEADER} header)
string(REPLACE ";" "@" header "${header}")  # a semicolon would separate the items of a list
string(REGEX REPLACE "//[^\n]*" "" header "${header}")
set(text "#pragma once\n#include <cstdio>\n#include <cstdlib>\n\nnamespace nvinfer1 {\n")
foreach(class VRuntime VCudaEngine VExecutionContext)
    string(REGEX MATCH "class ${class} : [^{]*{.*" body "${header}")
    string(FIND "${body}" "}@" end)
    string(SUBSTRING "${body}" 0 ${end} body)
    string(REGEX MATCHALL "virtual [^@]*= 0@" methods "${body}")
    string(APPEND text "\nclass NotFaked${class} : public apiv::${class} {\n  public:\n")
    foreach(method ${methods})
        string(REGEX REPLACE "= 0@$" "{ std::fputs(R\"(not faked: ${method})\", stderr)@ std::abort()@ }" method "${method}")
        string(APPEND text "    ${method}\n")
    endforeach()
    string(APPEND text "}@\n")
endforeach()
string(APPEND text "\n}  // namespace nvinfer1\n")
string(REPLACE "@" ";" text "${text}")
file(WRITE ${OUTPUT} "${text}")
