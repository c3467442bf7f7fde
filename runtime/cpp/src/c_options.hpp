// What applications give the C interface, checked and copied.
#pragma once

#include <caflow/caflow.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "draw.hpp"
#include "errors.hpp"
#include "image.hpp"
#include "pipeline.hpp"
#include "stream.hpp"

namespace caflow::runtime {

template <class Pointer>
void check_given(Pointer pointer, const char* name) {
    if (!pointer) throw InputError(std::string(name) + ": wanted a pointer, got NULL");
}

void check_flags(std::uint32_t flags, std::uint32_t known);

// Fields are no larger than the struct's alignment, so a size that is a multiple of it ends at the end of a field.
template <class Options>
void check_struct_size(std::size_t size, const char* what) {
    if (size >= sizeof(std::size_t) && size <= 16 * sizeof(Options) && size % alignof(Options) == 0) return;
    throw InputError(std::string(what) + ": wanted struct_size set to the struct's sizeof, got " +
                     std::to_string(size) + ": begin with the macro CAFLOW_…_INIT");
}

// Options, which may be NULL, as the runtime takes them. Flags of draws: those that are known.
Settings read_settings(const caflow_open_options* options);
caflow_draw_options read_draw_options(const caflow_draw_options* options);
Draw draw_of(const caflow_draw_options& options);
FrameNoise read_frame_noise(const caflow_stream_options* options);

// Images of the caller, copied. `scale`: by how much larger their targets are.
std::vector<Image> read_images(const caflow_image* given, std::size_t count, std::int64_t scale, const char* what);

}  // namespace caflow::runtime
