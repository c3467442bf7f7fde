// Every call of CUDA and TensorRT fails once, by its number; and as where a GPU is lost, all calls from one on.
//
// The fakes fail as documented, at the call itself. They cannot show what a real driver does after that.
#include <doctest/doctest.h>

#include <optional>

#include "on_fakes.hpp"

using namespace on_fakes;

namespace {

const Picture picture(4, 4, 0);

struct Scenario {
    std::optional<caflow::Model> model;
    std::vector<caflow::Results> results;

    // A chain that comes three times is run, recorded and repeated; a score runs the other graphs.
    void run() {
        if (!model) model = open_model();
        for (std::uint32_t seed = 0; seed < 3; ++seed) results.push_back(model->best_of(picture.view(), draw(1, seed)));
        results.push_back(model->score(results[0][0].view(), picture.view()));
    }
};

const std::vector<caflow::Results>& expected() {
    static Scenario scenario;
    if (!scenario.model) {
        scenario.model = open_model("cpu");
        scenario.run();
    }
    return scenario.results;
}

void check_same(const std::vector<caflow::Results>& ours) {
    REQUIRE(ours.size() == expected().size());
    for (std::size_t k = 0; k < ours.size(); ++k) on_fakes::check_same(ours[k], expected()[k]);
}

std::size_t calls_of_scenario() {
    fake::fail_none();
    Scenario().run();
    return fake::calls();
}

// What it says, and that it says so: what failed, and why in the words of the fakes, or that memory ran out for the
// smallest tile. Empty where nothing was thrown.
std::string message_of(Scenario& scenario) {
    try {
        scenario.run();
        return "";
    } catch (const caflow::Error& error) {
        const std::string message = error.what();
        const bool ran_out = dynamic_cast<const caflow::OutOfMemory*>(&error);
        CHECK_MESSAGE((ran_out || dynamic_cast<const caflow::BackendError*>(&error)), message);
        const bool says_why = message.find("fake ") != std::string::npos ||
                              (ran_out && message.find("less holds no tile") != std::string::npos);
        CHECK_MESSAGE(says_why, message);
        return message;
    }
}

}  // namespace

TEST_SUITE_BEGIN("gpu_failures");

TEST_CASE("a call that fails is an error or makes no difference, and the next try succeeds") {
    const Clean clean;
    const std::size_t calls = calls_of_scenario();
    std::size_t thrown = 0;
    for (std::size_t number = 1; number <= calls; ++number) {
        Scenario scenario;
        fake::fail_call(number);
        const std::string message = message_of(scenario);
        INFO("call ", number, " of ", calls, ": ", message);
        if (!message.empty()) {
            ++thrown;
            scenario.results.clear();
            scenario.run();
        }
        check_same(scenario.results);
        scenario.model.reset();
        const std::string failed = fake::failed_call();
        INFO(failed);
        CHECK_FALSE(failed.empty());
        Clean::check();
    }
    CHECK(thrown > calls / 4);
}

TEST_CASE("where the GPU is lost, it is an error, and all is freed") {
    const Clean clean;
    const std::size_t calls = calls_of_scenario();
    for (std::size_t number = 1; number <= calls; number += 10) {
        Scenario scenario;
        fake::fail_all_from(number);
        const std::string message = message_of(scenario);
        INFO("from call ", number, " of ", calls, " on: ", message);
        if (message.empty()) check_same(scenario.results);  // the first one to fail is of the end
        scenario.model.reset();
        Clean::check();
    }
}

TEST_SUITE_END();
