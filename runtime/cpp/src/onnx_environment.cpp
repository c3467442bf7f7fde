#include "onnx_environment.hpp"

#include <mutex>
#include <string>

#include "errors.hpp"

namespace caflow::runtime {

void find_library() {
    static std::once_flag is_found;  // threads that run another model read the pointer
    std::call_once(is_found, [] {
        const OrtApi* api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
        if (!api) {
            throw BackendError("the backend requires ONNX Runtime 1." + std::to_string(ORT_API_VERSION) +
                               " or newer; got " + OrtGetApiBase()->GetVersionString());
        }
        Ort::InitApi(api);
    });
}

const Ort::MemoryInfo& host_memory() {
    static const auto& memory = *new Ort::MemoryInfo(Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault));
    return memory;
}

Ort::Env& environment() {
    static Ort::Env& env = *[] {
        auto* created = new Ort::Env(ORT_LOGGING_LEVEL_ERROR, "caflow");
        try {
            // Use one memory arena for all graphs of the process. Graphs run one after the other, so this takes less
            // than half of the memory of one arena per graph.
            created->CreateAndRegisterAllocator(host_memory(), nullptr);
        } catch (const Ort::Exception&) {
            // Another user of ONNX Runtime in this process has registered an arena already: share it.
        }
        return created;
    }();
    return env;
}

}  // namespace caflow::runtime
