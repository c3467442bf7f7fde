// Tests of the GPU code with fakes of CUDA and TensorRT. The fake engines compute the bundle's own graphs on the CPU,
// so the results must be equal to those of the CPU backend.
//
// These tests detect a wrong order, shape, address or lifetime, and a missing wait. They do not cover the accuracy of
// real engines, undocumented behaviour of CUDA and TensorRT, work that runs at the same time, speed, and TensorRT-RTX.
#include <doctest/doctest.h>

#include <cstring>
#include <optional>
#include <thread>

#include "backend.hpp"
#include "on_fakes.hpp"

using namespace on_fakes;
using caflow::runtime::Array;
using caflow::runtime::Arrays;

namespace {

const Picture first(8, 8, 0), second(8, 8, 1), wide(6, 12, 2), large(30, 40, 3);

const caflow::Model& cpu() {
    static const caflow::Model model = open_model("cpu");
    return model;
}

}  // namespace

TEST_SUITE_BEGIN("gpu");

TEST_CASE("samples, likelihoods and scores are equal to those of the CPU, also when chains are replayed") {
    const Clean clean;
    const caflow::Model gpu = open_model();
    CHECK(gpu.info().backend == std::string("tensorrt fp32 on Fake GPU"));
    for (const std::uint32_t seed : {0, 1, 2, 3}) {
        const auto options = draw(3, seed);
        const std::vector<caflow::Image> both{first.view(), second.view()};
        check_same(gpu.best_of(both, options), cpu().best_of(both, options));
        check_same(gpu.best_of(wide.view(), options), cpu().best_of(wide.view(), options));
        check_same(gpu.sample(first.view(), options), cpu().sample(first.view(), options));
    }
    CHECK(fake::calls_of("cudaGraphLaunch") >= 6);  // otherwise no chain was replayed
    const caflow::Results best = cpu().best_of(first.view(), draw(2));
    const caflow::Image target = best[0].view();
    check_same(gpu.score(target, first.view(), true), cpu().score(target, first.view(), true));
}

TEST_CASE("options that choose the noise, and rows that are dropped in host memory") {
    const Clean clean;
    const caflow::Model gpu = open_model();
    caflow::DrawOptions options = draw(4, 4'000'000'000);
    options.frame = 7;
    options.first_sample = 5;
    options.temperature = {0.9, 0.6};
    check_same(gpu.sample(first.view(), options), cpu().sample(first.view(), options));
    options.keep = {4, 2};
    for (int k = 0; k < 3; ++k) check_same(gpu.best_of(wide.view(), options), cpu().best_of(wide.view(), options));
}

TEST_CASE("larger batches and images than the engines accept are cut") {
    const Clean clean;
    const caflow::Model gpu = open_model(), tiled = open_model("cpu", most_side * most_side);
    const auto many = draw(2 * most_rows + 1);
    check_same(gpu.best_of(first.view(), many), cpu().best_of(first.view(), many));
    for (int k = 0; k < 2; ++k) check_same(gpu.best_of(large.view(), draw(2)), tiled.best_of(large.view(), draw(2)));
}

TEST_CASE("with many shapes in turn, the oldest recording is dropped") {
    const Clean clean;
    const caflow::Model gpu = open_model();
    for (int round = 0; round < 3; ++round) {
        for (std::size_t k = 0; k < 12; ++k) {
            const Picture one(4 + 4 * (k / 4), 4 + 4 * (k % 4), double(k));
            check_same(gpu.best_of(one.view(), draw(1)), cpu().best_of(one.view(), draw(1)));
        }
    }
    CHECK(fake::calls_of("cudaGraphExecDestroy") > 0);
}

TEST_CASE("threads share a model") {
    const Clean clean;
    const caflow::Model gpu = open_model();
    const std::vector<const Picture*> pictures{&first, &second, &wide};
    std::vector<std::optional<caflow::Results>> results(pictures.size() * 4);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < pictures.size(); ++t) {
        threads.emplace_back([&, t] {
            for (std::uint32_t seed = 0; seed < 4; ++seed) {
                results[4 * t + seed] = gpu.best_of(pictures[t]->view(), draw(2, seed));
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (std::size_t k = 0; k < results.size(); ++k) {
        check_same(*results[k], cpu().best_of(pictures[k / 4]->view(), draw(2, std::uint32_t(k % 4))));
    }
}

TEST_CASE("when memory runs out, smaller batches succeed") {
    const Clean clean;
    const caflow::Model gpu = open_model();
    const caflow::Results expected = cpu().best_of(first.view(), draw(most_rows));
    check_same(gpu.best_of(first.view(), draw(1)), cpu().best_of(first.view(), draw(1)));
    const std::size_t for_one = fake::kept_memory();
    check_same(gpu.best_of(first.view(), draw(most_rows)), expected);
    const std::uint64_t before = gpu.info().pixel_budget;
    fake::limit_memory((for_one + fake::kept_memory()) / 2);
    check_same(gpu.best_of(first.view(), draw(most_rows)), expected);
    CHECK(gpu.info().pixel_budget < before);
}

TEST_CASE("contexts can use memory that the pool kept") {
    const Clean clean;
    const caflow::Model gpu = open_model();
    gpu.best_of(first.view(), draw(8));
    fake::limit_memory(fake::kept_memory());
    check_same(gpu.best_of(wide.view(), draw(1)), cpu().best_of(wide.view(), draw(1)));
    CHECK(fake::calls_of("cudaMemPoolTrimTo") > 0);
}

TEST_CASE("a chain that cannot be recorded, or not be replayed, is a warning") {
    const Clean clean;
    const std::string begins = "tensorrt fp32 on Fake GPU runs without CUDA graphs: a CUDA graph: fake ";
    for (const std::string call : {"cudaStreamBeginCapture", "cudaGraphInstantiate", "cudaGraphLaunch"}) {
        CAPTURE(call);
        const caflow::Model gpu = open_model();
        fake::fail_all_of(call);
        CHECK(gpu.info().warning == nullptr);
        const caflow::Results expected = cpu().best_of(first.view(), draw(2));
        for (int k = 0; k < 3; ++k) check_same(gpu.best_of(first.view(), draw(2)), expected);
        CHECK(fake::failed_call() == call);
        REQUIRE(gpu.info().warning != nullptr);
        const char* warning = gpu.info().warning;
        CHECK(std::string(warning).find(begins) == 0);
        check_same(gpu.best_of(wide.view(), draw(2)), cpu().best_of(wide.view(), draw(2)));
        check_same(gpu.best_of(wide.view(), draw(2)), cpu().best_of(wide.view(), draw(2)));
        CHECK(gpu.info().warning == warning);
        fake::fail_none();
    }
}

TEST_CASE("a chain that fails itself is an error and no warning") {
    const Clean clean;
    const caflow::Model gpu = open_model();
    gpu.best_of(first.view(), draw(2));
    fake::fail_all_from(1);
    CHECK_THROWS_AS(gpu.best_of(first.view(), draw(2)), caflow::BackendError);
    fake::fail_none();
    CHECK(gpu.info().warning == nullptr);
}

TEST_CASE("a bundle may be opened by a relative path, if the working directory changes later") {
    const Clean clean;
    const fs::path before = fs::current_path();
    fs::current_path(bundle().folder.parent_path());
    const caflow::Model gpu(bundle().folder.filename().string(), {"tensorrt", "", 0, overlap, 1});
    fs::current_path(before);
    check_same(gpu.best_of(first.view(), draw(2)), cpu().best_of(first.view(), draw(2)));
}

TEST_CASE("outputs of a graph may outlive the backend") {
    const Clean clean;
    const auto manifest = caflow::runtime::read_manifest(bundle().folder);
    const Array condition = caflow::runtime::make_array({1, 4, 4, 3}, std::vector<std::uint8_t>(48, 100));
    const auto encode = [&](std::unique_ptr<caflow::runtime::Backend> backend) {
        const auto graph = backend->load(*manifest.find_graph("encode"), {});
        return graph({{"condition", condition}}, caflow::runtime::Place::host);
    };
    constexpr auto provider = caflow::runtime::Provider::cpu;
    const Arrays expected = encode(caflow::runtime::open_onnx_runtime(bundle().folder, provider, 1, ""));
    const Arrays ours = encode(caflow::runtime::open_tensorrt(bundle().folder, manifest));
    for (const auto& [name, array] : expected) {
        REQUIRE(ours.at(name)->shape == array->shape);
        CHECK(std::memcmp(ours.at(name)->values(), array->values(), array->bytes()) == 0);
    }
}

TEST_SUITE_END();
