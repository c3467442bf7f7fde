#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine_model.hpp"
#include "engine_sets.hpp"
#include "errors.hpp"
#include "onnx_fields.hpp"

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
            {"format_version", 2},
            {"manifest_sha256", sha256_of(folder / "manifest.json")},
            {"flavor", "rtx"},
            {"version", "1.7.1.116"},
            {"compute_capability", "8.6"},
            {"gpu", nullptr},
            {"precision", "fp16"},
            {"profile", {{"batch_size", 4}, {"height", 256}, {"width", 512}}},
            {"engines", {{{"graph", "encode"}, {"file", {{"path", "a"}, {"bytes", 4}, {"sha256", ""}}}}}},
            {"verification", nlohmann::json::array()}};
        set.update(changes);
        fs::create_directories(folder / "engines" / name);
        std::ofstream(folder / "engines" / name / "engines.json") << set;
        std::ofstream(folder / "engines" / name / "a") << "plan";
    }

    std::optional<EngineSet> find() const {
        Manifest manifest;
        manifest.precision = "fp16";
        return find_engines(folder, manifest, here);
    }

    const fs::path folder;
};

// Return a number as ONNX files contain it: seven bits in each byte, lowest bits first.
std::string varint(std::size_t number) {
    if (number < 128) return {char(number)};
    return char(number % 128 + 128) + varint(number / 128);
}

// Return a field of an ONNX file whose value is bytes, or an integer.
std::string field(std::size_t number, const std::string& contents) {
    return varint(number << 3 | 2) + varint(contents.size()) + contents;
}

std::string integer(std::size_t number, std::size_t value) { return varint(number << 3) + varint(value); }

std::string number_of(const std::string& name, std::size_t value) {
    return field(5, field(1, name) + integer(3, value));
}

// Return the fields of a node EPContext.
std::string node_of(const std::string& op_type = "EPContext", std::size_t embed_mode = 1,
                    const std::string& engine = "plan", const std::string& more = "") {
    return field(4, op_type) + field(7, "com.microsoft") +
           field(5, field(1, "embed_mode") + integer(3, embed_mode) + more) +
           field(5, field(1, "ep_cache_context") + field(4, engine));
}

std::string graph_of(const std::string& node) { return field(1, node); }
std::string model_of(const std::string& graph) { return field(7, graph); }

}  // namespace

TEST_SUITE_BEGIN("engines");

TEST_CASE("the set for this kind of GPU is found, with its profile") {
    const Bundle bundle;
    bundle.add("other", {{"compute_capability", "12.0"}});
    bundle.add("this");
    const EngineSet set = bundle.find().value();
    CHECK(set.folder == bundle.folder / "engines" / "this");
    CHECK(set.engines.at("encode").path == "a");
    CHECK(set.profile.batch_size == 4);
    CHECK(set.profile.width == 512);
}

TEST_CASE("a set for exactly this GPU is preferred to one for its compute capability") {
    const Bundle bundle;
    bundle.add("a");
    bundle.add("b", {{"gpu", here.gpu}});
    bundle.add("c");
    CHECK(bundle.find()->folder.filename() == "b");
}

TEST_CASE("the version of TensorRT's package may have more parts than that of the library") {
    const Bundle bundle;
    bundle.add("one", {{"version", "1.7.1.116.post1"}});
    CHECK(bundle.find()->version == "1.7.1.116.post1");
}

TEST_CASE("a set that does not fit is not used, and the message says why") {
    const auto refuses = [](const char* why, const nlohmann::json& changes) {
        const Bundle bundle;
        bundle.add("one", changes);
        CHECK_THROWS_WITH_AS(bundle.find(), doctest::Contains((std::string("but it has one (") + why).c_str()),
                             BackendError);
        CHECK_THROWS_WITH_AS(bundle.find(), doctest::Contains("--trt fp16"), BackendError);
    };
    refuses("for compute capability 12.0)", {{"compute_capability", "12.0"}});
    refuses("for NVIDIA A10)", {{"gpu", "NVIDIA A10"}});
    refuses("built from another export of the model)", {{"manifest_sha256", "0"}});
    refuses("built with TensorRT-RTX 1.6.0.1, but the provider runs 1.7.1.116)", {{"version", "1.6.0.1"}});
    refuses("built with TensorRT-RTX 1.7.1.1160,", {{"version", "1.7.1.1160"}});
    const auto with_file = [](const char* path, int bytes) {
        return nlohmann::json{
            {"engines", {{{"graph", "encode"}, {"file", {{"path", path}, {"bytes", bytes}, {"sha256", ""}}}}}}};
    };
    refuses("a is missing or truncated)", with_file("a", 5));
    refuses("b is missing or truncated)", with_file("b", 4));
}

TEST_CASE("without a set of the provider's flavor, the provider builds its own engines") {
    const Bundle none, other;
    other.add("one", {{"flavor", "tensorrt"}});
    CHECK_FALSE(none.find());
    CHECK_FALSE(other.find());
}

TEST_CASE("the message names invalid descriptions, and files outside of the bundle") {
    const Bundle bundle;
    bundle.add("climbs",
               {{"engines", {{{"graph", "encode"}, {"file", {{"path", "../a"}, {"bytes", 4}, {"sha256", ""}}}}}}});
    bundle.add("odd", {{"unknown", 1}});
    bundle.add("newer", {{"format_version", 3}});
    bundle.add("text");
    std::ofstream(bundle.folder / "engines" / "text" / "engines.json") << "not JSON";
    for (const char* part : {"is not a path inside", "unknown", "expected 2", "not valid JSON"}) {
        CHECK_THROWS_WITH_AS(bundle.find(), doctest::Contains(part), BackendError);
    }
}

TEST_CASE("an engine is a model with one node that contains it") {
    CHECK_NOTHROW(check_engine_model(model_of(graph_of(node_of()))));
    const auto refuses = [](const char* why, const std::string& contents) {
        CHECK_THROWS_WITH_AS(check_engine_model(contents), doctest::Contains(why), WrongGraph);
    };
    refuses("with embed_mode 1; got the name of a file, '../engine'",
            model_of(graph_of(node_of("EPContext", 0, "../engine"))));
    refuses("got 'Identity'", model_of(graph_of(node_of("Identity"))));
    refuses("one node; got 2", model_of(graph_of(node_of()) + graph_of(node_of())));
    refuses("one graph; got 2", model_of(graph_of(node_of())) + model_of(graph_of(node_of())));
    refuses("one graph; got 0", "");
    refuses("got weights", model_of(graph_of(node_of()) + field(5, "weights")));
    refuses("got functions", model_of(graph_of(node_of())) + field(25, "function"));
    refuses("one operator; got 2", model_of(graph_of(node_of() + field(4, "EPContext"))));
    refuses("got 'EPContext'",
            model_of(graph_of(node_of() + field(7, ""))));  // readers differ in which domain they use
    refuses("one attribute 'embed_mode'; got two", model_of(graph_of(node_of() + number_of("embed_mode", 0))));
    refuses("must contain the engine", model_of(graph_of(node_of("EPContext", 1, "plan", integer(3, 0)))));
    refuses("the attribute 'partition' must be a number or a text",
            model_of(graph_of(node_of() + field(5, field(1, "partition") + field(6, "graph")))));
    refuses("must have the attributes embed_mode",
            model_of(graph_of(field(4, "EPContext") + field(7, "com.microsoft"))));
    refuses("it ends inside a field", model_of(graph_of(node_of())).substr(0, 60));
}

TEST_CASE("an engine with a changed byte is refused, and so is a file that is no engine") {
    const Bundle bundle;
    const auto find = [&](const std::string& contents, const std::string& hashed) {
        const std::string sha256 = sha256_of(std::string_view(hashed));
        bundle.add(
            "set",
            {{"engines",
              {{{"graph", "encode"}, {"file", {{"path", "a"}, {"bytes", contents.size()}, {"sha256", sha256}}}}}}});
        std::ofstream(bundle.folder / "engines" / "set" / "a", std::ios::binary) << contents;
        return bundle.find().value();
    };
    const std::string good = model_of(graph_of(node_of()));
    std::string changed = good;
    changed.back() ^= 1;
    CHECK(read_engine(find(good, good), "encode") == good);
    CHECK_THROWS_WITH_AS(read_engine(find(changed, good), "encode"), doctest::Contains("engines/set/a is damaged"),
                         BackendError);
    CHECK_THROWS_WITH_AS(read_engine(find("plan", "plan"), "encode"), doctest::Contains("not an ONNX file"),
                         BackendError);
    CHECK_THROWS_WITH_AS(read_engine(find(good, good), "decode_0"),
                         doctest::Contains("no engine for the graph decode_0"), BackendError);
    const EngineSet gone = find(good, good);
    fs::remove(gone.folder / "a");
    CHECK_THROWS_WITH_AS(read_engine(gone, "encode"), doctest::Contains("cannot be read"), BackendError);
}

TEST_SUITE_END();
