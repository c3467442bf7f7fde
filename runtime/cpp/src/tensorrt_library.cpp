#include "tensorrt_library.hpp"

#include <dlfcn.h>

#include <mutex>
#include <utility>
#include <vector>

#include "errors.hpp"

namespace caflow::runtime {

#ifdef TRT_MAJOR_RTX  // the headers are those of TensorRT-RTX
const char* const flavor_of_headers = "rtx";
#else
const char* const flavor_of_headers = "tensorrt";
#endif

namespace {

std::string file_name() {
    const std::string name = flavor_of_headers == std::string("rtx") ? "libtensorrt_rtx.so." : "libnvinfer.so.";
    return name + std::to_string(NV_TENSORRT_MAJOR);
}

template <class Function>
Function* find(void* library, const std::string& name) {
    if (void* found = dlsym(library, name.c_str())) return reinterpret_cast<Function*>(found);
    throw BackendError(file_name() + " has no function " + name + ": install TensorRT again");
}

TensorRtLibrary open_library() {
    void* library = dlopen(file_name().c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: it has its own threads
    if (!library) {
        throw BackendError("the backend requires " + file_name() + ", which cannot be loaded (" + dlerror() +
                           "): install TensorRT, or add its folder to LD_LIBRARY_PATH");
    }
    TensorRtLibrary opened;
    std::vector<int> numbers;
    for (const char* part : {"Major", "Minor", "Patch", "Build"}) {
        numbers.push_back(find<int()>(library, std::string("getInferLib") + part + "Version")());
        opened.version += (opened.version.empty() ? "" : ".") + std::to_string(numbers.back());
    }
    if (std::pair(numbers[0], numbers[1]) < std::pair(NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR)) {
        throw BackendError("the backend requires " + file_name() + " of version " + std::to_string(NV_TENSORRT_MAJOR) +
                           "." + std::to_string(NV_TENSORRT_MINOR) + " or newer, like the headers; got " +
                           opened.version + ": install a newer TensorRT");
    }
    opened.create_runtime = find<void*(void*, int)>(library, "createInferRuntime_INTERNAL");
    return opened;
}

constexpr std::size_t most_text = 4000;

class Log : public nvinfer1::ILogger {
  public:
    void log(Severity severity, const char* message) noexcept override try {
        if (severity > Severity::kERROR) return;
        const std::lock_guard lock(mutex_);
        if (text_.size() < most_text) text_ += (text_.empty() ? "" : "; ") + std::string(message);
    } catch (...) {  // drop the text if there is no memory for it
    }

    void clear() {
        const std::lock_guard lock(mutex_);
        text_.clear();
    }

    std::string text() {
        const std::lock_guard lock(mutex_);
        return text_.empty() ? "TensorRT reported no reason" : text_;
    }

  private:
    std::mutex mutex_;
    std::string text_;
};

// The logger is never destroyed: TensorRT has one logger per process, and threads may outlive static objects.
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

void forget_errors_of_tensorrt() { the_log().clear(); }

std::string errors_of_tensorrt() { return the_log().text(); }

}  // namespace caflow::runtime
