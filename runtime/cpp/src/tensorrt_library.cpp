#include "tensorrt_library.hpp"

#include <dlfcn.h>

#include <mutex>

#include "errors.hpp"

namespace caflow::runtime {

#ifdef TRT_MAJOR_RTX  // the headers are those of TensorRT-RTX
const char* const flavor = "rtx";
#else
const char* const flavor = "tensorrt";
#endif

namespace {

std::string file_name() {
    const std::string name = flavor == std::string("rtx") ? "libtensorrt_rtx.so." : "libnvinfer.so.";
    return name + std::to_string(NV_TENSORRT_MAJOR);
}

template <class Function>
Function* find(void* library, const std::string& name) {
    if (void* found = dlsym(library, name.c_str())) return reinterpret_cast<Function*>(found);
    throw BackendError(file_name() + " lacks " + name + ": install TensorRT again");
}

TensorRtLibrary open_library() {
    void* library = dlopen(file_name().c_str(), RTLD_NOW | RTLD_LOCAL);  // for good: it has threads of its own
    if (!library) {
        throw BackendError("wanted " + file_name() + ", but it cannot be loaded (" + dlerror() +
                           "): install TensorRT, or name its folder in LD_LIBRARY_PATH");
    }
    TensorRtLibrary opened;
    for (const char* part : {"Major", "Minor", "Patch", "Build"}) {
        auto* number = find<int()>(library, std::string("getInferLib") + part + "Version");
        opened.version += (opened.version.empty() ? "" : ".") + std::to_string(number());
    }
    opened.create_runtime = find<void*(void*, int)>(library, "createInferRuntime_INTERNAL");
    return opened;
}

class Log : public nvinfer1::ILogger {
  public:
    void log(Severity severity, const char* message) noexcept override {
        if (severity > Severity::kERROR) return;
        const std::lock_guard lock(mutex_);
        text_ = message;
    }

    std::string text() {
        const std::lock_guard lock(mutex_);
        return text_.empty() ? "TensorRT does not say why" : text_;
    }

  private:
    std::mutex mutex_;
    std::string text_;
};

// Never destroyed: TensorRT has one for the process, and threads may outlive static objects.
Log& the_log() {
    static Log& log = *new Log();
    return log;
}

}  // namespace

const TensorRtLibrary& tensorrt_library() {
    static const TensorRtLibrary& library = *new TensorRtLibrary(open_library());
    return library;
}

nvinfer1::ILogger& tensorrt_log() { return the_log(); }

std::string last_error_of_tensorrt() { return the_log().text(); }

}  // namespace caflow::runtime
