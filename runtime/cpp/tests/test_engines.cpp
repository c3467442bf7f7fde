#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine_sets.hpp"
#include "errors.hpp"

using namespace caflow::runtime;
namespace fs = std::filesystem;

namespace {

const Machine here{"rtx", "1.7.1.116", "8.6", "NVIDIA GeForce RTX 3090"};

fs::path new_folder() {
    std::string name = (fs::temp_directory_path() / "caflow-engines-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()));
    return name;
}

// Bundle in a temporary folder with engine sets. The folder is removed at the end.
class Bundle {
  public:
    Bundle() : folder(new_folder()) { std::ofstream(folder / "manifest.json") << "{}"; }
    ~Bundle() { fs::remove_all(folder); }

    // Add a set that fits the machine `here`, except for the fields in `changes`.
    void add(const std::string& name, const nlohmann::json& changes = nlohmann::json::object()) const {
        nlohmann::json set{
            {"format", "caflow-engines"},
            {"format_version", 1},
            {"manifest_sha256", sha256_of(folder / "manifest.json")},
            {"flavor", "rtx"},
            {"version", "1.7.1.116"},
            {"compute_capability", "8.6"},
            {"gpu", nullptr},
            {"precision", "fp16"},
            {"profiles", {{{"rows", 4}, {"height", 256}, {"width", 512}}}},
            {"engines", {{{"graph", "encode"}, {"file", {{"path", "a"}, {"bytes", 4}, {"sha256", ""}}}}}},
            {"verification", nlohmann::json::array()}};
        set.update(changes);
        fs::create_directories(folder / "engines" / name);
        std::ofstream(folder / "engines" / name / "engines.json") << set;
        std::ofstream(folder / "engines" / name / "a") << "plan";
    }

    EngineSet find() const {
        Manifest manifest;
        manifest.precision = "fp16";
        return find_engines(folder, manifest, here);
    }

    const fs::path folder;
};

}  // namespace

TEST_SUITE_BEGIN("engines");

TEST_CASE("the set for this kind of GPU is found, with its profiles") {
    const Bundle bundle;
    bundle.add("other", {{"compute_capability", "12.0"}});
    bundle.add("this");
    const EngineSet set = bundle.find();
    CHECK(set.folder == bundle.folder / "engines" / "this");
    CHECK(set.engines.at("encode").path == "a");
    CHECK(set.profiles.at(0).rows == 4);
    CHECK(set.profiles.at(0).width == 512);
}

TEST_CASE("a set for exactly this GPU is preferred to one for its compute capability") {
    const Bundle bundle;
    bundle.add("a");
    bundle.add("b", {{"gpu", here.gpu}});
    bundle.add("c");
    CHECK(bundle.find().folder.filename() == "b");
}

TEST_CASE("the version of TensorRT's package may have more parts than that of the library") {
    const Bundle bundle;
    bundle.add("one", {{"version", "1.7.1.116.post1"}});
    CHECK(bundle.find().version == "1.7.1.116.post1");
}

TEST_CASE("a set that does not fit is not used, and the message says why") {
    const auto refuses = [](const char* why, const nlohmann::json& changes) {
        const Bundle bundle;
        bundle.add("one", changes);
        CHECK_THROWS_WITH_AS(bundle.find(), doctest::Contains((std::string("but one (") + why).c_str()), BackendError);
        CHECK_THROWS_WITH_AS(bundle.find(), doctest::Contains("--trt fp16"), BackendError);
    };
    refuses("for compute capability 12.0)", {{"compute_capability", "12.0"}});
    refuses("for NVIDIA A10)", {{"gpu", "NVIDIA A10"}});
    refuses("built from another export of the model)", {{"manifest_sha256", "0"}});
    refuses("built with TensorRT-RTX 1.6.0.1, but this machine has TensorRT-RTX 1.7.1.116)", {{"version", "1.6.0.1"}});
    refuses("built with TensorRT-RTX 1.7.1.1160,", {{"version", "1.7.1.1160"}});
    refuses("built with TensorRT 1.7.1.116,", {{"flavor", "tensorrt"}});
    const auto with_file = [](const char* path, int bytes) {
        return nlohmann::json{
            {"engines", {{{"graph", "encode"}, {"file", {{"path", path}, {"bytes", bytes}, {"sha256", ""}}}}}}};
    };
    refuses("a is missing or truncated)", with_file("a", 5));
    refuses("b is missing or truncated)", with_file("b", 4));
    const Bundle none;
    CHECK_THROWS_WITH_AS(none.find(), doctest::Contains("has no engines for this NVIDIA GeForce RTX 3090"),
                         BackendError);
}

TEST_CASE("the message names invalid descriptions, and files outside of the bundle") {
    const Bundle bundle;
    bundle.add("climbs",
               {{"engines", {{{"graph", "encode"}, {"file", {{"path", "../a"}, {"bytes", 4}, {"sha256", ""}}}}}}});
    bundle.add("odd", {{"unknown", 1}});
    bundle.add("newer", {{"format_version", 2}});
    bundle.add("text");
    std::ofstream(bundle.folder / "engines" / "text" / "engines.json") << "not JSON";
    for (const char* part : {"is not a path inside", "unknown", "expected 1", "not valid JSON"}) {
        CHECK_THROWS_WITH_AS(bundle.find(), doctest::Contains(part), BackendError);
    }
}

TEST_SUITE_END();
