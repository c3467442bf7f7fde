// Tests of the table of execution providers. Its options are tested as texts: most of these providers need a GPU.
#include <doctest/doctest.h>

#include <cstdlib>

#include "errors.hpp"
#include "providers.hpp"

using namespace caflow::runtime;

TEST_SUITE_BEGIN("providers");

TEST_CASE("the name of a backend chooses a provider and a device") {
    CHECK(choose_provider("cpu").provider.name == "CPUExecutionProvider");
    CHECK(choose_provider("cuda").device == 0);
    CHECK(choose_provider("cuda:1").device == 1);
    CHECK(choose_provider("cuda:1").backend() == "cuda:1");
    CHECK(choose_provider("tensorrt:0").backend() == "tensorrt");
    CHECK(choose_provider("tensorrt-rtx").provider.is_plugin);
    CHECK(choose_provider("ort:OpenVino").provider.name == "OpenVINOExecutionProvider");
    CHECK(choose_provider("ort:NvTensorRTRTXExecutionProvider").backend() == "tensorrt-rtx");
    const ProviderChoice other = choose_provider("ort:webgpu:2");
    CHECK(other.provider.name == "webgpu");
    CHECK(other.device == 2);
    CHECK(is_same_provider("openvino", "OpenVINOExecutionProvider"));
    CHECK_FALSE(is_same_provider("open", "OpenVINOExecutionProvider"));
}

TEST_CASE("another name is refused") {
    for (const char* name :
         {"", "gpu", "CUDA", "cpu:1", "cuda:", "cuda:1:2", ":1", "ort:", "ort::1", "tensorrt-provider"}) {
        CAPTURE(name);
        CHECK_THROWS_WITH_AS(choose_provider(name),
                             doctest::Contains("auto, cpu, cuda, tensorrt, tensorrt-rtx, ort:openvino"), InputError);
    }
    CHECK_THROWS_WITH_AS(choose_provider("cuda:256"), doctest::Contains("from 0 to 255; got 256"), InputError);
    CHECK_THROWS_AS(choose_provider("cuda:99999999999999999999"), InputError);
}

TEST_CASE("each provider gets its own options") {
    const SessionNeeds needs{1, "cache", {"z:1x2", "z:4x8"}, 3};
    CHECK(choose_provider("cuda").provider.options(needs) == ProviderOptions{{"device_id", "1"}, {"use_tf32", "0"}});
    CHECK(choose_provider("tensorrt").provider.options(needs) == ProviderOptions{{"device_id", "1"},
                                                                                 {"trt_engine_cache_enable", "1"},
                                                                                 {"trt_engine_cache_path", "cache"},
                                                                                 {"trt_profile_min_shapes", "z:1x2"},
                                                                                 {"trt_profile_opt_shapes", "z:4x8"},
                                                                                 {"trt_profile_max_shapes", "z:4x8"}});
    CHECK(choose_provider("tensorrt-rtx").provider.options(needs) ==
          ProviderOptions{{"nv_runtime_cache_path", "cache"},
                          {"nv_profile_min_shapes", "z:1x2"},
                          {"nv_profile_opt_shapes", "z:4x8"},
                          {"nv_profile_max_shapes", "z:4x8"}});
    CHECK(choose_provider("tensorrt-rtx").provider.options({1, "", {}, 0}).empty());
    CHECK(choose_provider("ort:openvino").provider.options(needs).at("load_config") ==
          R"({"CPU":{"INFERENCE_PRECISION_HINT":"f32","INFERENCE_NUM_THREADS":"3"},)"
          R"("GPU":{"INFERENCE_PRECISION_HINT":"f32"}})");
}

TEST_CASE("the shapes of a graph's inputs follow from a profile") {
    const Manifest manifest = read_manifest(std::getenv("CAFLOW_BUNDLE"));  // scale 4, size multiple 8
    const auto shapes = [&](const char* graph) {
        return shapes_of(*manifest.find_graph(graph), manifest.model, {4, 64, 128});
    };
    CHECK(shapes("encode").smallest == "condition:1x2x2x3");
    CHECK(shapes("encode").largest == "condition:4x16x32x3");
    CHECK(shapes("reverse_0").largest.starts_with("latent:4x24x16x32"));
    CHECK(shapes("decode_1").smallest.find("image:1,") != std::string::npos);
    CHECK(shapes("decode_1").largest.find("image:4,") != std::string::npos);
    CHECK(shapes("degrade").largest == "target:4x64x128x3");
    CHECK(shapes("to_image").largest == "pixels:4x64x128x3");
}

TEST_CASE("engines that a provider builds have as many pixels as the budget allows") {
    const Manifest manifest = read_manifest(std::getenv("CAFLOW_BUNDLE"));
    const Profile profile = profile_for(manifest.model, 1 << 20), least = profile_for(manifest.model, 1);
    CHECK(profile.batch_size * profile.height * profile.width == 1 << 20);
    CHECK(least.height == manifest.model.size_multiple);
}

TEST_SUITE_END();
