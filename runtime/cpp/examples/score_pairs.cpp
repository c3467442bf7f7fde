// Scores pairs of images. Each line of standard input has the names of two image files: TARGET CONDITION. For each
// pair, the program prints a line of JSON with the log-likelihood. With ALPHA, such as 0.01, the line also has a
// verdict: images whose typicality is below ALPHA are rejected.
//     score_pairs BUNDLE [ALPHA] < pairs.txt
#include <iomanip>
#include <iostream>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <sstream>

#include "arguments.hpp"

namespace {

cv::Mat read_rgb(const std::string& path) {
    cv::Mat image = cv::imread(path);
    if (image.empty()) throw std::runtime_error(path + ": OpenCV cannot read this image");
    cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
    return image;
}

std::string quoted(const std::string& text) {
    std::ostringstream json;
    json << '"';
    for (const char c : text) {
        if (static_cast<unsigned char>(c) < 0x20) {
            json << "\\u00" << std::hex << std::setw(2) << std::setfill('0') << int(c);
        } else {
            json << (c == '"' || c == '\\' ? "\\" : "") << c;
        }
    }
    json << '"';
    return json.str();
}

const char* name_of(caflow::Outcome outcome) {
    if (outcome == caflow::Outcome::accepted) return "accepted";
    return outcome == caflow::Outcome::rejected ? "rejected" : "unjudged";
}

}  // namespace

int main(int count, char** arguments) try {
    if (count < 2 || count > 3) {
        std::cerr << "usage: score_pairs BUNDLE [ALPHA] < FILE with lines \"TARGET CONDITION\"\n";
        return 2;
    }
    const double alpha = count > 2 ? number_of(arguments[2], "ALPHA") : 0;
    const caflow::Model model = open_model(arguments[1]);
    std::cout << std::setprecision(12);
    bool all_scored = true;
    for (std::string target, condition; std::cin >> target >> condition;) {
        std::cout << "{\"target\": " << quoted(target) << ", ";
        try {
            const cv::Mat large = read_rgb(target), small = read_rgb(condition);
            const caflow::Image target_view = caflow::view(large), condition_view = caflow::view(small);
            const caflow::Results scored = count > 2 ? model.judge(target_view, condition_view, alpha)
                                                     : model.score(target_view, condition_view);
            std::cout << "\"log_likelihood\": " << scored[0].log_likelihood()
                      << ", \"bits_per_dim\": " << scored[0].bits_per_dim();
            if (count > 2) {
                std::cout << ", \"verdict\": \"" << name_of(scored[0].outcome())
                          << "\", \"reason\": " << quoted(scored[0].reason());
            }
            std::cout << "}" << std::endl;
        } catch (const std::exception& error) {
            std::cout << "\"error\": " << quoted(error.what()) << "}" << std::endl;
            all_scored = false;
        }
    }
    return all_scored ? 0 : 1;
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
