#include "bundle.hpp"

#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>

#include "errors.hpp"
#include "external_data.hpp"
#include "strict_json.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;
using Kind = BundleError::Kind;

namespace {

constexpr const char* manifest_name = "manifest.json";
constexpr std::uintmax_t manifest_bytes = 4 << 20;  // largest manifest that is read
constexpr std::size_t hash_block_bytes = 1 << 20;
constexpr std::int64_t graph_bytes = 16 << 20;  // largest ONNX file that is read; weights are in separate files

class Sha256 {
  public:
    Sha256() { check(digest_ && EVP_DigestInit_ex(digest_.get(), EVP_sha256(), nullptr)); }

    void add(std::string_view bytes) { check(EVP_DigestUpdate(digest_.get(), bytes.data(), bytes.size())); }

    std::string hex() {
        std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
        unsigned int size = 0;
        check(EVP_DigestFinal_ex(digest_.get(), bytes.data(), &size));
        std::string text;
        for (unsigned int k = 0; k < size; ++k) {
            text += "0123456789abcdef"[bytes[k] >> 4];
            text += "0123456789abcdef"[bytes[k] & 15];
        }
        return text;
    }

  private:
    static void check(bool works) {
        if (!works) throw std::runtime_error("OpenSSL cannot compute SHA-256");
    }

    std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> digest_{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

// Return why there is no bundle at a path, and what to do.
std::string why_none(const fs::path& folder) {
    std::error_code failed;
    if (fs::status(folder, failed).type() == fs::file_type::not_found) {
        return folder.string() + ": there is no such folder: give the path of a bundle";
    }
    if (fs::is_regular_file(folder, failed)) return folder.string() + " is a file: give the folder of a bundle";
    return folder.string() + " is not a bundle, because the folder has no " + manifest_name +
           ": export a checkpoint with caflow-export to create a bundle";
}

// Check that an ONNX file reads weights only from files that the manifest lists: any other file would not be covered by
// a hash.
void check_external_data(const fs::path& path, const File& file, const std::vector<File>& weights) {
    if (file.bytes > graph_bytes) {
        throw BundleError(Kind::BrokenGraph, path,
                          "the file must have at most " + std::to_string(graph_bytes) +
                              " bytes: export the model again, with its "
                              "weights in a separate file");
    }
    const std::string folder = file.path.substr(0, file.path.rfind('/') + 1);
    try {
        for (const std::string& location : external_files(read_text(path, graph_bytes))) {
            const auto is_it = [&](const File& listed) { return listed.path == folder + location; };
            if (std::any_of(weights.begin(), weights.end(), is_it)) continue;
            throw BundleError(Kind::UnlistedFile, path,
                              "the graph reads weights from '" + location.substr(0, 255) +
                                  "', which the manifest does not list: export the model again");
        }
    } catch (const WrongGraph& error) {
        throw BundleError(Kind::BrokenGraph, path, std::string(error.what()) + ": export the model again");
    }
}

}  // namespace

void check_links(const fs::path& path, const File& file) {
    std::error_code failed;
    const fs::path folder = fs::weakly_canonical(fs::absolute(path).parent_path(), failed);
    const fs::path target = failed ? fs::path() : fs::weakly_canonical(folder / file.path, failed);
    const auto [rest, unused] = std::mismatch(folder.begin(), folder.end(), target.begin(), target.end());
    if (failed || rest != folder.end()) {
        throw BundleError(Kind::PathOutside, path, "'" + file.path + "' leads out of the bundle");
    }
}

Manifest read_manifest(const fs::path& folder) {
    const fs::path path = folder / manifest_name;
    std::error_code failed;
    if (!fs::is_regular_file(path, failed)) throw BundleError(Kind::NoBundle, why_none(folder));
    Manifest manifest = parse_manifest(read_text(path, manifest_bytes), path);
    for (const File& file : manifest.files()) check_links(path, file);
    return manifest;
}

void verify_files(const fs::path& folder, const Manifest& manifest) {
    for (const File& file : manifest.files()) verify_file(folder, file);
    for (const GraphFile& graph : manifest.graphs) {
        check_external_data(folder / graph.file.path, graph.file, manifest.weights);
    }
}

void verify_file(const fs::path& folder, const File& file, const std::string& fault, const std::string& remedy) {
    const fs::path path = folder / file.path;
    std::error_code failed;
    if (!fs::is_regular_file(path, failed)) {
        throw BundleError(Kind::MissingFile, path, "the file is missing, although the manifest lists it: " + remedy);
    }
    if (const auto size = fs::file_size(path, failed); failed || file.bytes < 0 || size != std::uintmax_t(file.bytes)) {
        throw BundleError(Kind::TruncatedFile, path,
                          "the file " + fault + ": expected " + std::to_string(file.bytes) + " bytes, got " +
                              (failed ? failed.message() : std::to_string(size)) + ": " + remedy);
    }
    if (const std::string found = sha256_of(path); found != file.sha256) {
        throw BundleError(Kind::WrongHash, path,
                          "the file " + fault + ": expected SHA-256 " + file.sha256 + ", got " + found + ": " + remedy);
    }
}

std::string file_state(const fs::path& path) {
    struct stat found{};
    if (stat(path.c_str(), &found) != 0) return "";
    std::string state;
    // The time of the last change of the file's status, unlike that of its contents, cannot be set by programs.
    for (const auto number : {std::int64_t(found.st_dev), std::int64_t(found.st_ino), std::int64_t(found.st_size),
                              std::int64_t(found.st_ctim.tv_sec), std::int64_t(found.st_ctim.tv_nsec)}) {
        state += std::to_string(number) + " ";
    }
    return state;
}

std::string sha256_of(const fs::path& path) {
    Sha256 digest;
    std::ifstream stream(path, std::ios::binary);
    std::vector<char> block(hash_block_bytes);
    while (stream) {
        stream.read(block.data(), std::streamsize(block.size()));
        digest.add({block.data(), std::size_t(stream.gcount())});
    }
    return digest.hex();
}

std::string sha256_of(std::string_view bytes) {
    Sha256 digest;
    digest.add(bytes);
    return digest.hex();
}

}  // namespace caflow::runtime
