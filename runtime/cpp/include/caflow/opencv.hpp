// caflow.hpp with functions for images of OpenCV. This file is header-only; link OpenCV's core module.
#ifndef CAFLOW_OPENCV_HPP
#define CAFLOW_OPENCV_HPP

#include <caflow/caflow.hpp>
#include <opencv2/core.hpp>

#include <cstddef>
#include <string>

namespace caflow {

// Return an Image that points to the pixels of an RGB image of OpenCV, or of a condition with a mask, CV_8UC4, which
// must outlive it. The image may be a part of a larger one. OpenCV reads files as BGR: convert such images with
// cv::cvtColor first. Throws InputError if the image is empty, or if its type is neither CV_8UC3 nor CV_8UC4.
inline Image view(const cv::Mat& rgb) {
    if (rgb.empty()) throw InputError("rgb: the cv::Mat is empty: check that OpenCV could read the image");
    if ((rgb.type() != CV_8UC3 && rgb.type() != CV_8UC4) || rgb.dims != 2) {
        throw InputError("rgb: expected a two-dimensional cv::Mat of type CV_8UC3, or CV_8UC4 with a mask; got " +
                         std::to_string(rgb.dims) + " dimensions and type " + cv::typeToString(rgb.type()) +
                         ": convert it to 8-bit RGB");
    }
    return view(rgb.data, static_cast<std::size_t>(rgb.rows), static_cast<std::size_t>(rgb.cols), rgb.step,
                static_cast<std::size_t>(rgb.channels()));
}

// Return a copy of a result's image as an RGB image of OpenCV. Throws InputError for a scored image, which has no image.
inline cv::Mat mat(const Result& result) {
    auto* rgb = const_cast<std::uint8_t*>(result.rgb().data());
    if (!rgb) throw InputError("result: a scored image has no pixels: use the target that was scored");
    return cv::Mat(static_cast<int>(result.height()), static_cast<int>(result.width()), CV_8UC3, rgb).clone();
}

}  // namespace caflow

#endif
