#include "batch_size.hpp"

#include <algorithm>

namespace caflow::runtime {

namespace {

std::vector<TileBatch> units_of(std::size_t image, const std::vector<Tile>& windows,
                                const std::vector<std::uint32_t>& samples, const BatchLimits& room,
                                std::int64_t canvas_pixels) {
    const std::size_t rows = room.rows(windows[0]);
    std::size_t unfinished = samples.size();
    if (windows.size() > 1) {
        const std::int64_t pixels = windows.back().y.end() * windows.back().x.end();
        unfinished = std::size_t(std::max<std::int64_t>(1, canvas_pixels / pixels));
    }
    std::vector<TileBatch> units;
    for (std::size_t first = 0; first < samples.size(); first += unfinished) {
        const std::size_t end = std::min(samples.size(), first + unfinished);
        for (const Tile& window : windows) {
            for (std::size_t start = first; start < end; start += rows) {
                const auto from = samples.begin() + std::ptrdiff_t(start);
                units.push_back({image, &window, {from, from + std::ptrdiff_t(std::min(rows, end - start))}});
            }
        }
    }
    return units;
}

}  // namespace

std::vector<Run> plan(const std::vector<std::vector<Tile>>& windows, const std::vector<std::uint32_t>& samples,
                      const BatchLimits& room, std::int64_t canvas_pixels) {
    std::vector<Run> runs;
    std::size_t rows = 0;
    for (std::size_t image = 0; image < windows.size(); ++image) {
        for (TileBatch& unit : units_of(image, windows[image], samples, room, canvas_pixels)) {
            const bool fits = rows + unit.samples.size() <= room.rows(*unit.window);
            if (runs.empty() || !fits || !runs.back().front().window->has_shape_of(*unit.window)) {
                runs.emplace_back();
                rows = 0;
            }
            rows += unit.samples.size();
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

std::size_t BatchLimits::rows(const Tile& window) const {
    const std::int64_t rows = pixels / window.pixels();
    return std::size_t(std::max<std::int64_t>(1, profile ? std::min(rows, profile->rows) : rows));
}

std::string BatchLimits::remedy(std::size_t rows, std::int64_t height, std::int64_t width) const {
    const std::int64_t wanted = std::int64_t(rows) * height * width;
    std::string text;
    if (wanted > pixels) text = "a pixel budget of " + std::to_string(wanted);
    if (profile && (std::int64_t(rows) > profile->rows || height > profile->height || width > profile->width)) {
        text += text.empty() ? "" : " and ";
        text += "engines built with --max-rows " + std::to_string(rows) + " --max-size " + std::to_string(width) + "x" +
                std::to_string(height);
    }
    return text;
}

}  // namespace caflow::runtime
