#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <clocale>

int main(int count, char** arguments) {
    std::setlocale(LC_ALL, "");  // as graphical applications do
    return doctest::Context(count, arguments).run();
}
