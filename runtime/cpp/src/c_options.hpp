// Checks and copies the arguments that applications pass to the C interface. Errors are InputErrors.
#pragma once

#include <caflow/caflow.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "errors.hpp"
#include "image.hpp"
#include "draw_options.hpp"
#include "settings.hpp"
#include "stream.hpp"

namespace caflow::runtime {

// Check that a pointer is not NULL.
template <class Pointer>
void check_given(Pointer pointer, const char* name) {
    if (!pointer) throw InputError(std::string(name) + " must be a pointer; got NULL");
}

// Check that no flags other than `known` are set.
void check_flags(std::uint32_t flags, std::uint32_t known);

// Check the struct_size of an application's struct. No field is larger than the struct's alignment, so a size that is a
// multiple of the alignment ends at the end of a field.
template <class Options>
void check_struct_size(std::size_t size, const char* what) {
    if (size >= sizeof(std::size_t) && size <= 16 * sizeof(Options) && size % alignof(Options) == 0) return;
    throw InputError(std::string(what) + ".struct_size must be the sizeof of the struct; got " + std::to_string(size) +
                     ": initialize the struct with its macro CAFLOW_…_INIT");
}

// Convert the options of an application to those of the runtime. NULL selects the defaults.
Settings read_settings(const caflow_open_options* options);
caflow_draw_options read_draw_options(const caflow_draw_options* options);

// Return the options of a draw. `own` are the settings that the model is best used with.
DrawOptions draw_of(const caflow_draw_options& options, const Sampling& own);

FrameNoise read_frame_noise(const caflow_stream_options* options);

// Return copies of the caller's images. `what` is the name of the argument, for messages. Of conditions, the model limits
// the sides and prescribes the channels.
std::vector<Image> read_targets(const caflow_image* given, std::size_t count, const char* what);
std::vector<Image> read_conditions(const caflow_image* given, std::size_t count, const Model& model, const char* what);

}  // namespace caflow::runtime
