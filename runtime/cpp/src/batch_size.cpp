#include "batch_size.hpp"

#include <algorithm>

namespace caflow::runtime {

namespace {

std::vector<TileBatch> units_of(std::size_t image, const std::vector<Tile>& windows,
                                const std::vector<std::uint32_t>& samples, const BatchLimits& limits,
                                std::int64_t canvas_pixels) {
    const std::size_t items = limits.items(windows[0]);
    std::size_t unfinished = samples.size();
    if (windows.size() > 1) {
        const std::int64_t pixels = windows.back().y.end() * windows.back().x.end();
        unfinished = std::size_t(std::max<std::int64_t>(1, canvas_pixels / pixels));
    }
    std::vector<TileBatch> units;
    for (std::size_t first = 0; first < samples.size(); first += unfinished) {
        const std::size_t end = std::min(samples.size(), first + unfinished);
        for (const Tile& window : windows) {
            for (std::size_t start = first; start < end; start += items) {
                const auto from = samples.begin() + std::ptrdiff_t(start);
                units.push_back({image, &window, {from, from + std::ptrdiff_t(std::min(items, end - start))}});
            }
        }
    }
    return units;
}

}  // namespace

std::vector<Run> plan(const std::vector<std::vector<Tile>>& windows, const std::vector<std::uint32_t>& samples,
                      const BatchLimits& limits, std::int64_t canvas_pixels) {
    std::vector<Run> runs;
    std::size_t items = 0;
    for (std::size_t image = 0; image < windows.size(); ++image) {
        for (TileBatch& unit : units_of(image, windows[image], samples, limits, canvas_pixels)) {
            const bool fits = items + unit.samples.size() <= limits.items(*unit.window);
            if (runs.empty() || !fits || !runs.back().front().window->has_shape_of(*unit.window)) {
                runs.emplace_back();
                items = 0;
            }
            items += unit.samples.size();
            runs.back().push_back(std::move(unit));
        }
    }
    return runs;
}

std::vector<std::int64_t> owners(const Run& units) {
    std::vector<std::int64_t> owner;
    for (std::size_t k = 0; k < units.size(); ++k) owner.insert(owner.end(), units[k].samples.size(), std::int64_t(k));
    return owner;
}

std::optional<Sides> BatchLimits::largest_sides() const {
    if (!profile) return std::nullopt;
    return Sides{profile->height, profile->width};
}

std::size_t BatchLimits::items(const Tile& window) const {
    const std::int64_t items = pixels / window.pixels();
    return std::size_t(std::max<std::int64_t>(1, profile ? std::min(items, profile->batch_size) : items));
}

std::string BatchLimits::remedy(std::size_t items, std::int64_t height, std::int64_t width) const {
    const std::int64_t wanted = std::int64_t(items) * height * width;
    std::string text;
    if (wanted > pixels) text = "a pixel budget of " + std::to_string(wanted);
    if (profile && (std::int64_t(items) > profile->batch_size || height > profile->height || width > profile->width)) {
        text += text.empty() ? "" : " and ";
        text += "engines built with --max-batch-size " + std::to_string(items) + " --max-size " +
                std::to_string(width) + "x" + std::to_string(height);
    }
    return text;
}

}  // namespace caflow::runtime
