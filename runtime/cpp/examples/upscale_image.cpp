// Enlarges an image and writes the best of N samples.
//     upscale_image BUNDLE SMALL.png LARGE.png [N [TEMPERATURE]]
#include <iostream>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "arguments.hpp"

int main(int count, char** arguments) try {
    if (count < 4 || count > 6) {
        std::cerr << "usage: upscale_image BUNDLE SMALL.png LARGE.png [N [TEMPERATURE]]\n";
        return 2;
    }
    cv::Mat image = cv::imread(arguments[2]);
    if (image.empty()) throw std::runtime_error(std::string(arguments[2]) + ": OpenCV cannot read this image");
    cv::cvtColor(image, image, cv::COLOR_BGR2RGB);

    caflow::DrawOptions options;
    if (count > 4) options.n = samples_of(arguments[4]);
    if (count > 5) options.temperature.push_back(number_of(arguments[5], "TEMPERATURE"));
    const caflow::Model model = open_model(arguments[1]);
    const caflow::Results best = model.best_of(caflow::view(image), options);

    cv::cvtColor(caflow::mat(best[0]), image, cv::COLOR_RGB2BGR);
    if (!cv::imwrite(arguments[3], image))
        throw std::runtime_error(std::string(arguments[3]) + ": OpenCV cannot write this image");
    std::cout << "sample " << best[0].sample() << ", " << best[0].bits_per_dim() << " bits/dim\n";
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
