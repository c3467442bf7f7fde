#include <onnxruntime_run_options_config_keys.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>

#include "backend.hpp"
#include "errors.hpp"
#include "session_options.hpp"

namespace caflow::runtime {

namespace {

// Types of tensors, and ONNX Runtime's constants for them.
constexpr std::array types{
    std::pair{Type::float32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
    std::pair{Type::float16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
    std::pair{Type::bfloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16},
    std::pair{Type::uint8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
    std::pair{Type::int32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
    std::pair{Type::int64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
};

Type type_of(const Ort::Value& value) {
    const auto theirs = value.GetTensorTypeAndShapeInfo().GetElementType();
    const auto found = std::find_if(types.begin(), types.end(), [&](auto& pair) { return pair.second == theirs; });
    return found == types.end() ? Type::other : found->first;
}

// Output of a graph, in the memory where the graph left it.
class Output : public Tensor {
  public:
    explicit Output(Ort::Value&& given)
        : Tensor(given.GetTensorTypeAndShapeInfo().GetShape(), type_of(given)), value(std::move(given)) {}

    const void* values() const override {
        if (value.GetTensorMemoryInfo().GetDeviceType() != OrtMemoryInfoDeviceType_CPU) {
            throw BackendError("the host cannot read an array that a graph left on the GPU: export the model again");
        }
        return value.GetTensorRawData();
    }

    const Ort::Value value;
};

// A session with the names of its inputs and outputs.
struct Loaded {
    explicit Loaded(Ort::Session&& opened) : session(std::move(opened)) {
        Ort::AllocatorWithDefaultOptions allocator;
        for (std::size_t k = 0; k < session.GetInputCount(); ++k) {
            inputs.emplace_back(session.GetInputNameAllocated(k, allocator).get());
        }
        for (std::size_t k = 0; k < session.GetOutputCount(); ++k) {
            outputs.emplace_back(session.GetOutputNameAllocated(k, allocator).get());
        }
    }

    Ort::Session session;
    std::vector<std::string> inputs;
    std::vector<std::string> outputs;
};

void bind_input(Ort::IoBinding& binding, const char* name, const Tensor& array) {
    if (const auto* output = dynamic_cast<const Output*>(&array)) {
        binding.BindInput(name, output->value);
        return;
    }
    const auto type = std::find_if(types.begin(), types.end(), [&](auto& pair) { return pair.first == array.type; });
    binding.BindInput(name, Ort::Value::CreateTensor(host_memory(), const_cast<void*>(array.values()), array.bytes(),
                                                     array.shape.data(), array.shape.size(), type->second));
}

// The options of all runs of a backend. Runs share them, so that a stop ends those that have begun.
class Runs {
  public:
    Runs() { freeing_.AddConfigEntry(kOrtRunOptionsConfigEnableMemoryArenaShrinkage, "cpu:0"); }

    const Ort::RunOptions& options() const { return frees_memory ? freeing_ : keeping_; }

    bool is_stopped() const { return is_stopped_; }

    void set_stopped(bool stopped) {
        is_stopped_ = stopped;  // first, because a run that ends early reads it
        for (Ort::RunOptions* options : {&keeping_, &freeing_}) {
            stopped ? options->SetTerminate() : options->UnsetTerminate();
        }
    }

    // Whether the arena frees its unused memory at the end of each run. By default it keeps all memory that its largest
    // run took, and arrays outside the arena may then find no memory.
    std::atomic<bool> frees_memory = false;

  private:
    Ort::RunOptions keeping_, freeing_;
    std::atomic<bool> is_stopped_ = false;
};

// Return an ONNX file whose graph copies a float32 array with four axes from its input x to its output y. Copying is
// left to ONNX Runtime: its own functions for it do not know the providers that are built in. All fields are short, so
// each begins with one byte for its number and type, and one for its length.
std::string copying_model() {
    const auto field = [](int number, const std::string& contents) {
        return std::string{char(number << 3 | 2), char(contents.size())} + contents;
    };
    const auto integer = [](int number, char value) { return std::string{char(number << 3), value}; };
    std::string axes;
    for (const char* axis : {"a", "b", "c", "d"}) axes += field(1, field(2, axis));
    const std::string type = field(2, field(1, integer(1, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) + field(2, axes)));
    const std::string node = field(1, "x") + field(2, "y") + field(4, "Identity");
    const std::string graph =
        field(1, node) + field(2, "copy") + field(11, field(1, "x") + type) + field(12, field(1, "y") + type);
    return integer(1, 8) + field(8, integer(2, 17)) + field(7, graph);  // versions of the format and of the operators
}

class OnnxRuntime : public Backend {
  public:
    OnnxRuntime(const ProviderChoice& choice, const Settings& settings)
        : Backend("onnxruntime " + choice.backend()), provider_(choice, settings) {}

    Graph load(const GraphSource& source) override {
        const auto loaded = std::make_shared<Loaded>(open(source));
        const OrtMemoryInfo* device = provider_.device_memory();
        return [loaded, device, on_host = source.on_host, runs = runs_, text = source.path.string()](
                   const Arrays& arrays, NoiseWindow place) {
            try {
                Ort::IoBinding binding(loaded->session);
                for (const std::string& name : loaded->inputs) {
                    bind_input(binding, name.c_str(), *given(arrays, name, text));
                }
                for (const std::string& name : loaded->outputs) {
                    const bool is_read = std::find(on_host.begin(), on_host.end(), name) != on_host.end();
                    const bool stays = device && place == NoiseWindow::device && !is_read;
                    binding.BindOutput(name.c_str(), stays ? device : host_memory());
                }
                if (runs->is_stopped()) throw Stopped("caflow_set_stopped stopped the call");
                loaded->session.Run(runs->options(), binding);
                std::vector<Ort::Value> values = binding.GetOutputValues();
                Arrays out;
                for (std::size_t k = 0; k < values.size(); ++k) {
                    out[loaded->outputs[k]] = std::make_shared<Output>(std::move(values[k]));
                }
                return out;
            } catch (const Ort::Exception& error) {
                if (runs->is_stopped()) throw Stopped("caflow_set_stopped stopped the call");
                fail(text + ": " + error.what());
            }
        };
    }

    Array to_device(const Array& array) override {
        const OrtMemoryInfo* device = provider_.device_memory();
        if (!device) return array;
        try {
            std::call_once(can_copy_, [this] {
                const std::string model = copying_model();
                copying_ = std::make_unique<Ort::Session>(environment(), model.data(), model.size(),
                                                          provider_.options_for_copies());
            });
            Ort::IoBinding binding(*copying_);
            bind_input(binding, "x", *array);
            binding.BindOutput("y", device);
            copying_->Run(Ort::RunOptions(nullptr), binding);
            return std::make_shared<Output>(std::move(binding.GetOutputValues()[0]));
        } catch (const Ort::Exception& error) {
            fail(name + " cannot copy an array to the device: " + error.what());
        }
    }

    bool spare_memory() override {
        if (provider_.is_cpu()) runs_->frees_memory = true;  // the arena that all graphs share is the CPU's
        return runs_->frees_memory;
    }

    void set_stopped(bool stopped) override { runs_->set_stopped(stopped); }

  private:
    Ort::Session open(const GraphSource& source) const {
        try {
            const Ort::SessionOptions options = provider_.options_for(source.shapes);
            if (source.engine.empty()) return Ort::Session(environment(), source.path.c_str(), options);
            return Ort::Session(environment(), source.engine.data(), source.engine.size(), options);
        } catch (const Ort::Exception& error) {
            const std::string text = name + " cannot load this graph: " + error.what();
            if (is_out_of_memory(text)) throw OutOfMemory(source.path.string() + ": " + text);
            if (!source.engine.empty()) {
                throw BackendError(source.path.string() + ": " + text +
                                   ": build the engines again with caflow-export --trt");
            }
            throw BundleError(BundleError::Kind::BrokenGraph, source.path, text);
        }
    }

    const OpenProvider provider_;
    const std::shared_ptr<Runs> runs_ = std::make_shared<Runs>();
    std::once_flag can_copy_;
    std::unique_ptr<Ort::Session> copying_;
};

}  // namespace

std::unique_ptr<Backend> open_onnx_runtime(const ProviderChoice& choice, const Settings& settings) {
    find_library();
    return std::make_unique<OnnxRuntime>(choice, settings);
}

}  // namespace caflow::runtime
