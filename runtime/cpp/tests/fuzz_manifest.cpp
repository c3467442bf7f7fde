// libFuzzer target of the manifest reader: any text must be read or refused with a BundleError.
#include <cstdint>
#include <string_view>

#include "bundle.hpp"
#include "errors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        caflow::runtime::parse_manifest({reinterpret_cast<const char*>(data), size}, "bundle/manifest.json");
    } catch (const caflow::runtime::BundleError&) {
    }
    return 0;
}
