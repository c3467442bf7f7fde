// Tests of the comparison with the CPU. The other backend is the CPU with a bundle whose weights were changed.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "errors.hpp"
#include "parity.hpp"

using namespace caflow::runtime;
namespace fs = std::filesystem;

namespace {

Settings on_cpu() {
    Settings settings;
    settings.backend = "cpu";
    settings.threads = 1;
    return settings;
}

std::string contents_of(const fs::path& path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

// Copy of the test bundle with weights that differ by up to one part in a hundred, or are not finite. It is removed at
// the end.
class Altered {
  public:
    explicit Altered(float factor) {
        std::string name = (fs::temp_directory_path() / "caflow-parity-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()));
        folder = name;
        fs::copy(std::getenv("CAFLOW_BUNDLE"), folder, fs::copy_options::recursive);
        nlohmann::json manifest = nlohmann::json::parse(contents_of(folder / "manifest.json"));
        for (nlohmann::json& file : manifest["weights"]) {
            const fs::path path = folder / file["path"].get<std::string>();
            std::string bytes = contents_of(path);
            for (std::size_t at = 0; at + sizeof(float) <= bytes.size(); at += 64) {
                float value = 0;
                std::memcpy(&value, &bytes[at], sizeof value);
                if (std::abs(value) < 1e-3f || std::abs(value) > 10) continue;  // may be an integer
                value *= factor;
                std::memcpy(&bytes[at], &value, sizeof value);
            }
            std::ofstream(path, std::ios::binary) << bytes;
            file["sha256"] = sha256_of(std::string_view(bytes));
        }
        std::ofstream(folder / "manifest.json") << manifest;
    }
    ~Altered() { fs::remove_all(folder); }
    Altered(const Altered&) = delete;
    Altered& operator=(const Altered&) = delete;

    fs::path folder;
};

}  // namespace

TEST_SUITE_BEGIN("parity");

TEST_CASE("a backend with the CPU's results is accepted, and one with others is not") {
    const Graphs exact(std::getenv("CAFLOW_BUNDLE"), on_cpu());
    CHECK_NOTHROW(check_parity(exact, exact));
    for (const float factor : {1.01f, INFINITY}) {
        CAPTURE(factor);
        const Altered altered(factor);
        CHECK_THROWS_WITH_AS(check_parity(Graphs(altered.folder, on_cpu()), exact),
                             doctest::Contains("results differ from those of the CPU: pixels"), BackendError);
    }
}

TEST_SUITE_END();
