#include "runner.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <new>
#include <numeric>
#include <set>

#include "errors.hpp"
#include "estimate.hpp"
#include "known_values.hpp"
#include "prune.hpp"

namespace caflow::runtime {

namespace {

constexpr std::int64_t canvas_pixels = 1 << 25;  // limit of unfinished pixels of tiled images, 12 bytes each

// Return the units' windows of padded images whose targets are `scale` times as large, as (units, h, w, channels).
std::vector<std::uint8_t> windows_side_by_side(const Run& units, const std::vector<Image>& padded, std::int64_t scale) {
    std::vector<std::uint8_t> values;
    for (const TileBatch& unit : units) {
        const TileAxis &y = unit.window->y, &x = unit.window->x;
        const Image& image = padded[unit.image];
        for (std::int64_t row = y.start / scale; row < y.end() / scale; ++row) {
            const std::uint8_t* from = image.row(row);
            values.insert(values.end(), from + image.channels * (x.start / scale),
                          from + image.channels * (x.end() / scale));
        }
    }
    return values;
}

Shape shape_of_windows(const Run& units, std::int64_t scale, std::int64_t channels) {
    const Tile& window = *units.front().window;
    return {std::int64_t(units.size()), window.y.length() / scale, window.x.length() / scale, channels};
}

// Return the index of each item's unit, (items) int64.
Array image_of_items(const Run& units) {
    const std::vector<std::int64_t> image = owners(units);
    return make_array({std::int64_t(image.size())}, image);
}

// Row that is not finished, because some of its windows have not run yet.
struct Unfinished {
    TileCanvas canvas;
    std::optional<LatentStatistics> statistics;  // of an existing target
};

// Return the nats of each level. Each level has two maps; any further map belongs to the finest level.
std::vector<double> per_level(const std::vector<MergedMap>& maps, std::size_t levels) {
    std::vector<double> nats(levels, 0.0);
    for (std::size_t k = 0; k < maps.size(); ++k) nats[std::min(k / 2, levels - 1)] += maps[k].sum();
    return nats;
}

}  // namespace

bool BatchItem::has_finite_likelihood() const {
    return std::all_of(per_level.begin(), per_level.end(), [](double nats) { return std::isfinite(nats); });
}

Runner::Runner(const Graphs& graphs, std::int64_t pixel_budget, std::int64_t overlap)
    : graphs_(graphs), model_(graphs.manifest().model), pixel_budget_(pixel_budget), overlap_(overlap) {}

void Runner::draw(const std::vector<Image>& conditions, const std::vector<std::uint32_t>& samples, const Noise& noise,
                  const std::vector<std::uint32_t>& keep, const Sink& sink) {
    const std::int64_t items = std::int64_t(samples.size()), most = std::numeric_limits<std::int64_t>::max() / items;
    const std::int64_t item_pixels = items * std::min(padded_pixels(conditions), most);
    within_memory(item_pixels, sink, [&](std::int64_t budget, const Sink& give) {
        const Windows windows = windows_of(conditions, budget);
        if (!keep.empty()) check_prunable(windows, samples.size(), budget);
        const Prepared whole = prepared(conditions);
        // Reuse the encoding if the next batch has the same windows with other samples.
        std::vector<std::pair<std::size_t, const Tile*>> encoded_places;
        Arrays encoded;
        const auto run = [&](const Run& units) {
            const std::vector<Array> z = draw_noise_of(units, noise);
            std::vector<std::pair<std::size_t, const Tile*>> places;
            for (const TileBatch& unit : units) places.emplace_back(unit.image, unit.window);
            if (places != encoded_places) {
                encoded.clear();  // free the memory of the last encoding first
                encoded = encode_units(units, whole);
                encoded_places = places;
            }
            return sample(graphs_, encoded, image_of_items(units), z, keep.empty() ? Prune() : prune_to(units, keep));
        };
        run_all(windows, samples, budget, conditions, true, run, give);
    });
}

void Runner::score(const std::vector<Image>& targets, const std::vector<Image>& conditions, const Sink& sink) {
    within_memory(padded_pixels(conditions), sink, [&](std::int64_t budget, const Sink& give) {
        const Prepared whole = prepared(conditions);
        const std::vector<Image> whole_targets = padded(with_known(targets, conditions, model_), 1);
        const auto run = [&](const Run& units) { return score_run(units, whole_targets, whole); };
        run_all(windows_of(conditions, budget), {0}, budget, conditions, false, run, give);
    });
}

Runner::Windows Runner::windows_of(const std::vector<Image>& conditions, std::int64_t budget) const {
    Windows windows;
    for (const Image& condition : conditions) {
        const std::int64_t height = model_.scale * condition.height, width = model_.scale * condition.width;
        try {
            windows.push_back(cut(height, width, model_.size_multiple, budget, overlap_, limits(budget).largest_sides()));
        } catch (const TooSmall& error) {
            throw InputError(std::string(error.what()) + ": use a smaller overlap or a larger pixel_budget" +
                             (graphs_.profile() ? " or engines built with a larger --max-size" : ""));
        }
        const Tile& first = windows.back().front();
        const bool is_whole = windows.back().size() == 1 && first.y.length() == height && first.x.length() == width;
        if (!is_whole && !model_.can_be_tiled) {
            const std::string multiple = std::to_string(model_.size_multiple), most = std::to_string(budget);
            throw InputError(
                "this model needs whole images, which cannot be padded or cut: sides must be multiples of " + multiple +
                ", and images must have at most " + most + " pixels; got " + std::to_string(width) + "×" +
                std::to_string(height));
        }
        const std::vector<std::uint8_t> drawn = drawn_pixels(condition, model_);
        if (drawn.empty()) continue;
        windows.back() = with_drawn(windows.back(), drawn, {height, width});
        if (windows.back().empty()) {
            throw InputError(
                "all values of this image are known, so there is nothing to draw: give a mask with a hole");
        }
    }
    return windows;
}

// Call `run` with the pixel budget. Each time memory runs out, halve the budget, also for later calls, and call `run`
// again; items that `sink` already has are not passed to it again. `item_pixels` is the number of pixels of all
// items of one size, which may share a batch; a budget above it makes no difference.
void Runner::within_memory(std::int64_t item_pixels, const Sink& sink,
                           const std::function<void(std::int64_t budget, const Sink& sink)>& run) {
    std::set<std::pair<std::size_t, std::uint32_t>> given;
    const auto give_once = [&](BatchItem&& item) {
        const auto [place, is_new] = given.emplace(item.image, item.sample);
        if (!is_new) return;
        try {
            sink.take(std::move(item));
        } catch (...) {
            given.erase(place);  // memory may have run out inside `sink`: pass the item again
            throw;
        }
    };
    const std::int64_t whole = pixel_budget_;
    for (std::int64_t budget = whole;;) {
        std::string ran_out;
        try {
            run(budget, {give_once, sink.progress});
            std::int64_t known = pixel_budget_;
            while (budget < known && !pixel_budget_.compare_exchange_weak(known, budget)) {
            }
            return;
        } catch (const OutOfMemory& error) {
            ran_out = error.what();
        } catch (const std::bad_alloc&) {
            ran_out = "memory ran out";
        } catch (const InputError&) {
            if (budget == whole) throw;
            throw OutOfMemory("memory ran out with a pixel budget of " + std::to_string(2 * budget) +
                              ", and a smaller one does not allow tiles");
        }
        budget = std::min(budget, item_pixels) / 2;
        if (budget < model_.size_multiple * model_.size_multiple) throw OutOfMemory(ran_out);
        graphs_.spare_memory();
    }
}

// Plan the batches, run them, merge their results, and pass finished items to `sink`.
void Runner::run_all(const Windows& windows, const std::vector<std::uint32_t>& samples, std::int64_t budget,
                     const std::vector<Image>& conditions, bool with_pixels, const RunBatch& run,
                     const Sink& sink) const {
    std::map<std::pair<std::size_t, std::uint32_t>, Unfinished> unfinished;
    std::size_t done = 0, total = 0;  // numbers of windows, over all samples
    for (const std::vector<Tile>& of_image : windows) total += samples.size() * of_image.size();
    for (const Run& units : plan(windows, samples, limits(budget), canvas_pixels)) {
        std::vector<std::pair<const TileBatch*, std::uint32_t>> pairs;
        for (const TileBatch& unit : units) {
            for (const std::uint32_t sample : unit.samples) pairs.emplace_back(&unit, sample);
        }
        const ScanResult items = run(units);
        const std::size_t count = items.kept.size();
        for (std::size_t r = 0; r < count; ++r) {
            const auto& [unit, sample] = pairs[items.kept[r]];
            const Image& condition = conditions[unit->image];
            const std::pair key{unit->image, sample};
            auto found = unfinished.find(key);
            if (found == unfinished.end()) {
                Unfinished blank{TileCanvas(model_.scale * condition.height, model_.scale * condition.width), {}};
                if (!items.latents.empty()) blank.statistics.emplace(model_.noise_channels);
                found = unfinished.emplace(key, std::move(blank)).first;
            }
            auto& [canvas, statistics] = found->second;
            std::vector<Map> maps;
            for (const auto& level : items.maps) {
                for (const Array& map : level) maps.push_back(map_of(map, r, count, *unit->window));
            }
            const auto pixels =
                with_pixels ? pixels_of(items.pixels, r, count, *unit->window) : std::span<const float>();
            canvas.add(*unit->window, pixels, maps);
            std::vector<Latents> latents;
            for (const Array& z : items.latents) latents.push_back(latents_of(z, r, count, *unit->window));
            if (statistics) statistics->add(*unit->window, latents);
            if (canvas.windows < windows[unit->image].size()) continue;
            BatchItem item{unit->image, sample, std::move(canvas.pixels), std::move(canvas.maps), {}, {}, {}};
            if (with_pixels) complete(item.pixels, condition, model_);
            item.dims = dims_of(condition, model_);
            item.per_level = per_level(item.maps, std::size_t(model_.levels));
            if (statistics) item.statistics = statistics->values();
            unfinished.erase(found);
            sink.take(std::move(item));
        }
        done += pairs.size();
        if (sink.progress) sink.progress(done, total);
    }
}

// Pad conditions, and estimate how each of them was degraded if the model is told of it.
Prepared Runner::prepared(const std::vector<Image>& conditions) const {
    Prepared found{padded(conditions, model_.scale), {}};
    if (!graphs_.has("estimate")) return found;
    for (const Image& image : found.padded) found.degradation.push_back(estimate_degradation(graphs_, image));
    return found;
}

// Run the graph that depends on the conditions only, once for each unit.
Arrays Runner::encode_units(const Run& units, const Prepared& conditions) const {
    const Array given = make_array(shape_of_windows(units, model_.scale, model_.condition_channels),
                                   windows_side_by_side(units, conditions.padded, model_.scale));
    if (conditions.degradation.empty()) return encode(graphs_, given);
    std::vector<float> values;
    for (const TileBatch& unit : units) {
        const std::vector<float>& of_image = conditions.degradation[unit.image];
        values.insert(values.end(), of_image.begin(), of_image.end());
    }
    const std::int64_t items = std::int64_t(units.size()), columns = std::int64_t(values.size()) / items;
    return encode(graphs_, given, make_array({items, columns}, std::move(values)));
}

// Return the noise z of each level for all items of a batch.
std::vector<Array> Runner::draw_noise_of(const Run& units, const Noise& noise) const {
    const Tile& shape = *units.front().window;
    // Noise that several frames share is copied to the device once. Other noise is copied by the run that reads it.
    const DrawNoise draw = [this](const LevelNoise& z) { return graphs_.to_device(draw_noise(z)); };
    std::vector<Array> drawn;
    for (std::int64_t j = 0; j < model_.levels; ++j) {
        const auto& channels = model_.noise_channels[std::size_t(j)];
        const std::vector<float> taus(noise.temperature.begin() + j, noise.temperature.end());
        if (channels.size() > taus.size())
            throw BackendError("noise_channels: a level has noise of more levels than the model has");
        const std::int64_t cell = model_.noise_cell(j);
        const auto cells = [&](std::int64_t pixels) { return std::uint32_t(pixels / cell); };
        LevelNoise z{std::uint32_t(j),        channels,   taus,        cells(shape.y.length()),
                     cells(shape.x.length()), noise.seed, noise.frame, {}};
        for (const TileBatch& unit : units) {
            for (const std::uint32_t sample : unit.samples) {
                z.items.push_back({cells(unit.window->y.start), cells(unit.window->x.start), sample});
            }
        }
        drawn.push_back(noise.source ? noise.source(z, draw) : draw_noise(z));
    }
    return drawn;
}

// Run the scoring graphs on one batch.
ScanResult Runner::score_run(const Run& units, const std::vector<Image>& padded_targets,
                             const Prepared& conditions) const {
    const Arrays encoded = encode_units(units, conditions);
    const Shape shape = shape_of_windows(units, 1, target_channels);
    std::vector<std::uint8_t> integers = windows_side_by_side(units, padded_targets, 1);
    if (!graphs_.has("dequantize")) {
        std::vector<float> middles(integers.size());
        std::transform(integers.begin(), integers.end(), middles.begin(),
                       [](std::uint8_t w) { return float(w) + 0.5f; });
        return runtime::score(graphs_, encoded, image_of_items(units), make_array(shape, std::move(middles)));
    }
    const Arrays out = graphs_.run("dequantize", {{"integers", make_array(shape, std::move(integers))}});
    ScanResult items = runtime::score(graphs_, encoded, image_of_items(units), needed(out, "pixels"));
    items.maps.back().push_back(needed(out, "log_likelihood_map"));
    return items;
}

void Runner::check_prunable(const Windows& windows, std::size_t samples, std::int64_t budget) const {
    for (const std::vector<Tile>& of_image : windows) {
        if (of_image.size() == 1 && samples <= limits(budget).items(of_image[0])) continue;
        const std::int64_t height = of_image.back().y.end(), width = of_image.back().x.end();
        throw InputError("keep: all " + std::to_string(samples) + " samples of an image must fit in one batch, " +
                         std::to_string(width) + "×" + std::to_string(height) + " pixels each: use " +
                         limits(budget).remedy(samples, height, width));
    }
}

// Return the number of pixels of all padded targets of one size, of the size with most pixels.
std::int64_t Runner::padded_pixels(const std::vector<Image>& conditions) const {
    const auto up = [&](std::int64_t side) {
        return (side * model_.scale + model_.size_multiple - 1) / model_.size_multiple * model_.size_multiple;
    };
    std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> of_sizes;
    std::int64_t most = 0;
    for (const Image& condition : conditions) {
        const std::int64_t height = up(condition.height), width = up(condition.width);
        most = std::max(most, of_sizes[{height, width}] += height * width);
    }
    return most;
}

// Return padded images. `scale` is target side / image side; padded targets have sides that are multiples of the
// model's size multiple.
std::vector<Image> Runner::padded(const std::vector<Image>& images, std::int64_t scale) const {
    const std::int64_t multiple = model_.size_multiple / scale;
    const auto up = [&](std::int64_t side) { return (side + multiple - 1) / multiple * multiple; };
    std::vector<Image> padded;
    for (const Image& image : images) padded.push_back(pad(image, up(image.height), up(image.width)));
    return padded;
}

}  // namespace caflow::runtime
